-- The earliest of each line by hopping from queue to priority in the index, and of what is due without having joined one.
WITH RECURSIVE line (queue, priority) AS (
    SELECT * FROM (
        SELECT queue, priority FROM piecework_job INDEXED BY piecework_job_line
        WHERE state = 'available' AND due = 1 ORDER BY queue, priority LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.priority FROM line JOIN piecework_job AS n ON n.seq = (
        SELECT seq FROM piecework_job INDEXED BY piecework_job_line
        WHERE state = 'available' AND due = 1 AND (queue, priority) > (line.queue, line.priority)
        ORDER BY queue, priority LIMIT 1
    )
)
SELECT queue, min(since) FROM (
    SELECT queue, (
        SELECT min(j.run_at) FROM piecework_job AS j INDEXED BY piecework_job_line
        WHERE j.state = 'available' AND j.due = 1 AND j.queue = line.queue AND j.priority = line.priority
    ) AS since FROM line
    UNION ALL
    SELECT queue, min(run_at) FROM piecework_job INDEXED BY piecework_job_later
    WHERE state = 'available' AND due = 0 AND run_at <= :now GROUP BY queue
) GROUP BY queue ORDER BY queue
