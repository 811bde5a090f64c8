SELECT 1 FROM piecework_job
WHERE key = :key AND id <> :id AND key IS NOT NULL AND state IN ('available', 'running', 'waiting', 'parked')
