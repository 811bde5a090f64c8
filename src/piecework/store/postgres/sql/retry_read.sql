SELECT queue, state, batch, key, finished_at, run, below,
       (SELECT o.wait IS NOT NULL AND o.received IS NULL FROM piecework_operation AS o WHERE o.job = seq)
FROM piecework_job
WHERE id = :id AND state IN ('failed', 'cancelled', 'parked')
