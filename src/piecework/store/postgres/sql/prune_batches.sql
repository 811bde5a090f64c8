DELETE FROM piecework_batch WHERE "then" = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
