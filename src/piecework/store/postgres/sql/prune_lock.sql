-- Whoever else prunes is left what it has.
SELECT seq FROM piecework_job WHERE seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
FOR UPDATE SKIP LOCKED
