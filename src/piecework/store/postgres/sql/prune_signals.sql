DELETE FROM piecework_signal WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
