-- Every other end of a run, many in one step. Nothing changes where the fence (id, run) does not match.
UPDATE piecework_job AS j
SET state = s.state,
    attempt = s.attempt,
    settled = j.run,
    result = s.result,
    cursor = coalesce(s.cursor, j.cursor),
    error = s.error,
    reason = CASE WHEN j.stopping <> 0 AND s.state = 'cancelled' THEN coalesce(j.reason, s.reason) ELSE s.reason END,
    stopping = 0,
    -- It has been begun: only a run that is handed back may still come too late.
    expires_at = CASE WHEN s.delay IS NULL AND s.cursor IS NULL THEN j.expires_at END,
    -- A run that is handed back, with no attempt spent, keeps its place in the line.
    run_at = CASE
        WHEN s.state <> 'available' OR (s.delay IS NULL AND s.attempt = j.attempt) THEN j.run_at
        ELSE :now + coalesce(s.delay, 0)
    END,
    due = s.state <> 'available' OR coalesce(s.delay, 0) <= 0,
    finished_at = CASE WHEN s.state IN ('completed', 'failed', 'cancelled') THEN :now END
FROM json_to_recordset(:rows::json) AS s (
    id text, run integer, state text, attempt integer, result text, delay float8, cursor text, error text, reason text
)
WHERE j.id = s.id AND CASE j.state WHEN 'running' THEN j.run = s.run ELSE false END
