-- Written before the job's row moves on: it still says when this run began, and where.
INSERT INTO piecework_step (
    operation, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route
)
SELECT j.seq, j.run, s.attempt, s.outcome, j.started_at, :now, j.worker, s.error, s.reason, s.at, s.changes, s.route
FROM json_to_recordset(:rows::json)
    AS s (
        id text, run integer, attempt integer, outcome text, error text, reason text, at text, changes text, route text
    )
JOIN piecework_job AS j ON j.id = s.id
WHERE CASE j.state WHEN 'running' THEN j.run = s.run ELSE false END
