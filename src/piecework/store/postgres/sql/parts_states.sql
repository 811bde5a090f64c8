SELECT name, state, call FROM piecework_part
WHERE job = :job AND name = ANY(ARRAY(SELECT json_array_elements_text(:names::json)))
