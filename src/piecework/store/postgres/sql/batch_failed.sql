SELECT id FROM piecework_batch
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND always AND state = 'failed'
