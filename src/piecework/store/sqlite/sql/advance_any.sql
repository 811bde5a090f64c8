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
FROM (
    WITH said AS MATERIALIZED (
        SELECT value -> 0 AS ids, value ->> 1 AS run, value ->> 2 AS cursor, value ->> 6 AS error, value ->> 7 AS reason,
               value ->> 10 AS state, value ->> 11 AS onward, value ->> 12 AS queue, value ->> 13 AS priority,
               value ->> 14 AS result, value ->> 15 AS delay
        FROM json_each(:rows)
    ),
    s AS MATERIALIZED (
        SELECT t.value AS id, said.run, said.cursor, said.error, said.reason, said.state, said.onward, said.queue,
               said.priority, said.result, said.delay
        FROM said CROSS JOIN json_each(said.ids) AS t
    )
    SELECT * FROM s
) AS s
WHERE j.id = s.id AND j.run = s.run AND j.state = 'running'
  AND (:careful OR j.stopping = 0)
