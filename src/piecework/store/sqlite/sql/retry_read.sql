SELECT queue, state, batch, key, finished_at, run, below,
       (SELECT wait IS NOT NULL AND received IS NULL FROM piecework_operation WHERE job = seq)
FROM piecework_job
WHERE id = :id AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
