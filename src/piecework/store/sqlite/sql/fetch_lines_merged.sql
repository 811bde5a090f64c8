-- The best of each line first, then the best of those.
SELECT json_group_array(seq), json_group_array(json_array(
    id, run + 1, task, queue, priority, attempt, crashes, batch, coalesce(root, batch), cursor, options, :now, args))
FROM (
    SELECT j.* FROM json_each(:queues) AS line
    JOIN piecework_job AS j ON j.seq IN (
        SELECT seq FROM piecework_job INDEXED BY piecework_job_line
        WHERE state = 'available' AND due = 1 AND queue = line.value
        ORDER BY priority, run_at, seq LIMIT :limit
    )
    ORDER BY j.priority, j.run_at, j.seq LIMIT :limit
)
