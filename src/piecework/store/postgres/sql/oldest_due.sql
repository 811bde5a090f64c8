-- The earliest of each line, by hopping from queue to queue and from priority to priority in the index, and of what is
-- due without having joined a line.
WITH RECURSIVE line (queue) AS (
    (SELECT queue FROM piecework_job WHERE state = 'available' AND due ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT j.queue FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue > line.queue ORDER BY j.queue LIMIT 1
    )
    FROM line WHERE line.queue IS NOT NULL
),
step (queue, priority, since) AS (
    SELECT line.queue, f.priority, f.run_at FROM line CROSS JOIN LATERAL (
        SELECT j.priority, j.run_at FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue = line.queue ORDER BY j.priority, j.run_at LIMIT 1
    ) AS f
    UNION ALL
    SELECT step.queue, f.priority, f.run_at FROM step CROSS JOIN LATERAL (
        SELECT j.priority, j.run_at FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue = step.queue AND j.priority > step.priority
        ORDER BY j.priority, j.run_at LIMIT 1
    ) AS f
)
SELECT queue, greatest(0.0, :now - min(since)) FROM (
    SELECT queue, since FROM step
    UNION ALL
    SELECT queue, min(run_at) FROM piecework_job WHERE state = 'available' AND NOT due AND run_at <= :now GROUP BY queue
    UNION ALL
    SELECT j.queue, min(o.wake_at) FROM piecework_operation AS o JOIN piecework_job AS j ON j.seq = o.job
    WHERE o.wake_at IS NOT NULL AND o.wake_at <= :now GROUP BY j.queue
) AS found GROUP BY queue ORDER BY queue
