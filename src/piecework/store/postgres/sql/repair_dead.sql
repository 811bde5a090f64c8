SELECT id FROM piecework_batch
WHERE state IN ('failed', 'stopped') AND open > 0 AND id >= :after ORDER BY id LIMIT :limit
