SELECT name, state, call, number FROM piecework_part
WHERE job = :job AND name = ANY(ARRAY(SELECT json_array_elements_text(:names::json)))
