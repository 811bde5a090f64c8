-- Those that run are few; the pieces of a batch may be a million.
UPDATE piecework_job SET stopping = 1, reason = :reason
WHERE state = 'running' AND batch = ANY(ARRAY(SELECT json_array_elements_text(:batches::json))) AND stopping = 0
