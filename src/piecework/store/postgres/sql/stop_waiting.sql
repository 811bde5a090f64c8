SELECT id, queue, state, batch FROM piecework_job
WHERE state = 'waiting' AND batch = ANY(ARRAY(SELECT json_array_elements_text(:batches::json)))
