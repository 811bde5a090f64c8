SELECT 1 FROM piecework_job
WHERE key = :key AND id <> :id AND (state = 'available' OR state = 'running' OR state = 'waiting' OR state = 'parked')
