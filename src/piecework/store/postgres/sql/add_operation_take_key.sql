UPDATE piecework_operation SET key = NULL
WHERE key = ANY(ARRAY(SELECT json_array_elements_text(:keys::json))) AND key IS NOT NULL
