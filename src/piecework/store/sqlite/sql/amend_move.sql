-- What has ended stays so until somebody retries it, and goes on there then.
UPDATE piecework_job
SET cursor = :cursor, queue = coalesce(:queue, queue), priority = coalesce(:priority, priority),
    attempt = 0, crashes = 0, below = NULL, progress = NULL, expires_at = NULL,
    state = :state,
    run_at = CASE WHEN :state = 'available' THEN :now + :delay ELSE run_at END,
    due = CASE WHEN :state = 'available' THEN :delay <= 0 ELSE due END,
    error = CASE WHEN :state = 'available' THEN NULL ELSE error END,
    reason = CASE WHEN :state = 'available' THEN NULL ELSE reason END
WHERE id = :id
