-- Written before the job's row moves on: it still says when this run began, and where.
INSERT INTO piecework_step (
    operation, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route
)
SELECT j.seq, j.run, s.value ->> 3, s.value ->> 4, j.started_at, :now, j.worker, s.value ->> 6, s.value ->> 7,
       s.value ->> 5, s.value ->> 8, s.value ->> 9
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0 AND j.run = s.value ->> 1
WHERE j.state = 'running'
