SELECT queue, state, batch, key, finished_at, run FROM piecework_job
WHERE id = :id AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
