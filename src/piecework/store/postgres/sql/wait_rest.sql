UPDATE piecework_operation SET awaits = NULL, wake_at = NULL
WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
