SELECT id, queue, state, batch, finished_at FROM {jobs}
WHERE ({where}) AND (state = 'available' OR state = 'running' OR state = 'waiting' OR state = 'parked') AND stopping = 0
ORDER BY seq LIMIT :limit
