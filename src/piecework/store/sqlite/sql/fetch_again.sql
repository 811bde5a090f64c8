-- A claim that was answered before, in the order of then.
SELECT json_group_array(json_array(
    id, run, task, queue, priority, attempt, crashes, batch, coalesce(root, batch), cursor, options, started_at, args))
FROM (
    SELECT * FROM piecework_job INDEXED BY piecework_job_running
    WHERE state = 'running' AND worker = :worker AND claim = :claim
    ORDER BY priority, run_at, seq
)
