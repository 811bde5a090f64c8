SELECT json_group_array(seq), json_group_array(json_array(
    id, run + 1, task, queue, priority, attempt, crashes, batch, coalesce(root, batch), cursor, options, :now, args))
FROM (
    SELECT * FROM piecework_job INDEXED BY piecework_job_line
    WHERE state = 'available' AND due = 1 AND queue = :queue
    ORDER BY priority, run_at, seq LIMIT :limit
)
