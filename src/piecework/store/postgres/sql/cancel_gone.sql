SELECT id FROM piecework_job WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND state = 'cancelled'
