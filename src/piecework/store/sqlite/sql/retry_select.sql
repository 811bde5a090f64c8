SELECT id FROM piecework_job
WHERE ({where}) AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
ORDER BY seq LIMIT :limit
