DELETE FROM piecework_operation WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint)) RETURNING digest
