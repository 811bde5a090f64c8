SELECT queue, state, batch, key, finished_at, run FROM piecework_job
WHERE id = :id AND state IN ('failed', 'cancelled', 'parked')
