SELECT id FROM piecework_batch
WHERE always AND state = 'open' AND "then" = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
