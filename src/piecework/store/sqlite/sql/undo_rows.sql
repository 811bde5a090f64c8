-- What was begun and has not ended is to be undone, now: with attempts of its own.
UPDATE piecework_job
SET state = 'available', due = 1, run_at = :now, attempt = 0, crashes = 0, finished_at = NULL, expires_at = NULL,
    reason = :reason, stopped_by = coalesce(:by, stopped_by),
    stopped_at = CASE WHEN :by IS NULL THEN stopped_at ELSE :now END
WHERE id IN (SELECT value FROM json_each(:ids))
