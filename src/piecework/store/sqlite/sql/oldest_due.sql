-- The earliest of each line, by hopping from queue to queue and from priority to priority in the index, and of what is
-- due without having joined a line.
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM piecework_job WHERE state = 'available' AND due = 1
    UNION ALL
    SELECT (SELECT min(queue) FROM piecework_job WHERE state = 'available' AND due = 1 AND queue > line.queue)
    FROM line WHERE line.queue IS NOT NULL
),
step (queue, priority) AS (
    SELECT queue, (SELECT min(priority) FROM piecework_job WHERE state = 'available' AND due = 1 AND queue = line.queue)
    FROM line WHERE queue IS NOT NULL
    UNION ALL
    SELECT queue, (
        SELECT min(priority) FROM piecework_job
        WHERE state = 'available' AND due = 1 AND queue = step.queue AND priority > step.priority
    )
    FROM step WHERE priority IS NOT NULL
)
SELECT queue, max(0.0, :now - min(since)) FROM (
    SELECT queue, (
        SELECT min(j.run_at) FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due = 1 AND j.queue = step.queue AND j.priority = step.priority
    ) AS since
    FROM step WHERE priority IS NOT NULL
    UNION ALL
    SELECT queue, min(run_at) FROM piecework_job INDEXED BY piecework_job_later
    WHERE state = 'available' AND due = 0 AND run_at <= :now GROUP BY queue
    UNION ALL
    SELECT j.queue, min(o.wake_at) FROM piecework_operation AS o INDEXED BY piecework_operation_wake
    JOIN piecework_job AS j ON j.seq = o.job WHERE o.wake_at IS NOT NULL AND o.wake_at <= :now GROUP BY j.queue
) GROUP BY queue ORDER BY queue
