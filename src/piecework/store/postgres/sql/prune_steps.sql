DELETE FROM piecework_step WHERE operation = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
