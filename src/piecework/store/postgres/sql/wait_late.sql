SELECT j.seq, j.queue
FROM piecework_operation AS o JOIN piecework_job AS j ON j.seq = o.job
WHERE o.wake_at IS NOT NULL AND o.wake_at <= :now ORDER BY o.wake_at LIMIT :limit
