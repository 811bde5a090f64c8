DELETE FROM piecework_term WHERE operation = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
