SELECT queue, state, batch, key, finished_at, run, below,
       (SELECT awaits IS NOT NULL FROM piecework_operation WHERE job = seq)
FROM piecework_job
WHERE id = :id AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
