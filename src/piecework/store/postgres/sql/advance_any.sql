-- Every other advance. Who was asked to stop does not match, unless that has been minded.
UPDATE piecework_job AS j
SET state = s.state,
    run = j.run + s.onward,
    settled = j.run,
    queue = coalesce(s.queue, j.queue),
    priority = coalesce(s.priority, j.priority),
    cursor = coalesce(s.cursor, j.cursor),
    started_at = CASE WHEN s.state = 'running' THEN :now ELSE j.started_at END,
    attempt = 0, crashes = 0, below = NULL, progress = NULL, expires_at = NULL, stopping = 0,
    result = s.result, error = s.error, reason = s.reason,
    run_at = CASE WHEN s.state = 'available' THEN :now + coalesce(s.delay, 0) ELSE j.run_at END,
    due = s.state <> 'available' OR coalesce(s.delay, 0) <= 0,
    finished_at = CASE WHEN s.state IN ('completed', 'failed', 'cancelled') THEN :now END
FROM json_to_recordset(:rows::json) AS s (
    id text, run integer, cursor text, error text, reason text, state text, onward integer, queue text, priority integer,
    result text, delay float8
)
WHERE j.id = s.id AND CASE j.state WHEN 'running' THEN j.run = s.run AND (:careful OR j.stopping = 0) ELSE false END
