-- Every other end of a run, many in one step. Nothing changes where the fence (id, run) does not match.
UPDATE piecework_job AS j
SET state = s.state,
    attempt = s.attempt,
    settled = j.run,
    result = s.result,
    cursor = coalesce(s.cursor, j.cursor),
    error = s.error,
    reason = s.reason,
    stopping = 0,
    run_at = CASE WHEN s.state = 'available' THEN :now + coalesce(s.delay, 0) ELSE j.run_at END,
    due = s.state <> 'available' OR coalesce(s.delay, 0) <= 0,
    finished_at = CASE WHEN s.state IN ('completed', 'failed', 'cancelled') THEN :now END
FROM (
    SELECT value ->> 0 AS id, value ->> 1 AS run, value ->> 2 AS state, value ->> 3 AS attempt, value ->> 4 AS result,
           value ->> 5 AS delay, value ->> 6 AS cursor, value ->> 7 AS error, value ->> 8 AS reason
    FROM json_each(:rows)
) AS s
WHERE j.id = s.id AND j.run = s.run AND j.state = 'running'
