SELECT job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes
FROM piecework_attempt WHERE job = :id AND run > :after ORDER BY run, finished_at LIMIT :limit
