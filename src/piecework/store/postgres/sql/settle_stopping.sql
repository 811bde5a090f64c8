SELECT id, reason, stopping FROM piecework_job
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND stopping <> 0 AND state = 'running'
