UPDATE piecework_job SET state = 'available', due = true, run_at = :now
WHERE seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint)) AND state = 'waiting'
