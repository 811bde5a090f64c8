INSERT INTO piecework_attempt (job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor)
SELECT j.id, s.run, s.attempt, s.outcome, j.started_at, :now, j.worker, s.error,
       CASE WHEN s.outcome = 'cancelled' THEN j.reason ELSE s.reason END, j.cursor
FROM json_to_recordset(:rows::json) AS s (id text, run integer, attempt integer, outcome text, error text, reason text)
JOIN piecework_job AS j ON j.id = s.id
ON CONFLICT DO NOTHING
