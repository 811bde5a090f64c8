-- What has ended stays so until somebody retries it, and goes on there then.
UPDATE piecework_job AS j
SET cursor = s.cursor, queue = coalesce(s.queue, j.queue), priority = coalesce(s.priority, j.priority),
    attempt = 0, crashes = 0, below = NULL, progress = NULL, expires_at = NULL,
    state = s.state,
    run_at = CASE WHEN s.state = 'available' THEN :now + s.delay ELSE run_at END,
    due = CASE WHEN s.state = 'available' THEN s.delay <= 0 ELSE due END,
    error = CASE WHEN s.state = 'available' THEN NULL ELSE error END,
    reason = CASE WHEN s.state = 'available' THEN NULL ELSE reason END
FROM (
    SELECT value ->> 0 AS id, value ->> 1 AS cursor, value ->> 2 AS queue, value ->> 3 AS priority, value ->> 4 AS state,
           value ->> 5 AS delay
    FROM json_each(:rows)
) AS s
WHERE j.id = s.id
