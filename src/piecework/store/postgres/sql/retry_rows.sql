UPDATE piecework_job
SET state = :state, attempt = 0, crashes = 0, stopping = 0, error = NULL, reason = NULL, finished_at = NULL,
    expires_at = NULL, stopped_by = NULL, stopped_at = NULL,
    due = true, run_at = CASE WHEN :state = 'available' THEN :now ELSE run_at END
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
