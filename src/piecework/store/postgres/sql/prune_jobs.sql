DELETE FROM piecework_job WHERE seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
