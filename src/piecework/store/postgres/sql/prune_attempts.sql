DELETE FROM piecework_attempt WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
