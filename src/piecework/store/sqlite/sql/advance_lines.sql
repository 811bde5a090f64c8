-- Written before the job's row moves on: it still says when this run began, and where.
-- What many ends have in common is read once, not for each of them: to read ten values of a row is most of its cost.
INSERT INTO piecework_step (
    operation, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route
)
WITH said AS MATERIALIZED (
    SELECT value -> 0 AS ids, value ->> 1 AS run, value ->> 3 AS attempt, value ->> 4 AS outcome, value ->> 5 AS at,
           value ->> 6 AS error, value ->> 7 AS reason, value ->> 8 AS changes, value ->> 9 AS route
    FROM json_each(:rows)
)
SELECT j.seq, j.run, said.attempt, said.outcome, j.started_at, :now, j.worker, said.error, said.reason, said.at,
       said.changes, said.route
FROM said CROSS JOIN json_each(said.ids) AS s CROSS JOIN piecework_job AS j ON j.id = s.value AND j.run = said.run
WHERE j.state = 'running'
