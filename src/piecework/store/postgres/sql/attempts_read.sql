SELECT job, run, attempt, outcome, started_at, finished_at, worker, error, reason
FROM piecework_attempt WHERE job = :id ORDER BY run, finished_at
