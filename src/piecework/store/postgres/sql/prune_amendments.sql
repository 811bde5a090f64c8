DELETE FROM piecework_amendment WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
