-- Handed back in place: they keep their run_at, and so their place at the head of the line.
UPDATE piecework_job AS j
SET state = s.state, crashes = s.crashes, reason = s.reason, due = true, stopping = 0,
    expires_at = CASE WHEN s.crashes = j.crashes THEN j.expires_at END,
    error = coalesce(s.error, j.error),
    finished_at = CASE WHEN s.counted THEN :now END
FROM json_to_recordset(:rows::json)
    AS s (id text, state text, crashes integer, reason text, counted boolean, error text)
WHERE j.id = s.id AND j.state = 'running'
