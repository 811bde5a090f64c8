UPDATE piecework_job
SET state = 'available', attempt = 0, crashes = 0, stopping = 0, error = NULL, reason = NULL, finished_at = NULL,
    expires_at = NULL, stopped_by = NULL, stopped_at = NULL, due = true, run_at = :now
WHERE seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
