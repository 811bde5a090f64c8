SELECT id, run, state, settled FROM piecework_job
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) ORDER BY id FOR NO KEY UPDATE
