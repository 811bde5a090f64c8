-- A claim that was answered before, in the order of then.
SELECT id, run, task, queue, priority, attempt, crashes, batch, coalesce(root, batch), cursor, options, started_at, args
FROM piecework_job WHERE state = 'running' AND worker = :worker AND claim = :claim
ORDER BY priority, run_at, seq
