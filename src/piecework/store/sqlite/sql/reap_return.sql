-- Handed back in place: they keep their run_at, and so their place at the head of the line.
UPDATE piecework_job AS j
SET state = s.state, crashes = s.crashes, reason = s.reason, due = 1, stopping = 0,
    expires_at = CASE WHEN s.crashes = j.crashes THEN j.expires_at END,
    error = coalesce(s.error, j.error),
    finished_at = CASE WHEN s.counted THEN :now END
FROM (
    SELECT value ->> 0 AS id, value ->> 1 AS state, value ->> 2 AS crashes, value ->> 3 AS reason, value ->> 4 AS counted,
           value ->> 5 AS error
    FROM json_each(:rows)
) AS s
WHERE j.id = s.id AND j.state = 'running'
