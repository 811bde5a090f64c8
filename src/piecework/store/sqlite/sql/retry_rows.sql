UPDATE piecework_job
SET state = :state, attempt = 0, crashes = 0, stopping = 0, error = NULL, reason = NULL, finished_at = NULL, expires_at = NULL,
    stopped_by = NULL, stopped_at = NULL,
    due = 1, run_at = CASE WHEN :state = 'available' THEN :now ELSE run_at END
WHERE id IN (SELECT value FROM json_each(:ids))
