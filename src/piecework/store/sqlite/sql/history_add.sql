INSERT INTO piecework_attempt (job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor)
SELECT j.id, s.value ->> 1, s.value ->> 2, s.value ->> 3, j.started_at, :now, j.worker, s.value ->> 4,
       CASE WHEN s.value ->> 3 = 'cancelled' THEN j.reason ELSE s.value ->> 5 END, j.cursor
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0
WHERE true
ON CONFLICT DO NOTHING
