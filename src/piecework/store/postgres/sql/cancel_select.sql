SELECT id, queue, state, batch, finished_at FROM piecework_job
WHERE ({where}) AND state IN ('available', 'running', 'waiting', 'parked') AND NOT stopping
ORDER BY seq LIMIT :limit
