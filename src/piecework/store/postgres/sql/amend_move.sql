-- What has ended stays so until somebody retries it, and goes on there then.
UPDATE piecework_job AS j
SET cursor = s.cursor, queue = coalesce(s.queue, j.queue), priority = coalesce(s.priority, j.priority),
    attempt = 0, crashes = 0, below = NULL, progress = NULL, expires_at = NULL,
    state = s.state,
    run_at = CASE WHEN s.state = 'available' THEN :now + s.delay ELSE j.run_at END,
    due = CASE WHEN s.state = 'available' THEN s.delay <= 0 ELSE j.due END,
    error = CASE WHEN s.state = 'available' THEN NULL ELSE j.error END,
    reason = CASE WHEN s.state = 'available' THEN NULL ELSE j.reason END
FROM json_to_recordset(:rows::json)
    AS s (id text, cursor text, queue text, priority integer, state text, delay float8)
WHERE j.id = s.id
