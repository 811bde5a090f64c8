UPDATE piecework_operation SET ending = NULL
WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
