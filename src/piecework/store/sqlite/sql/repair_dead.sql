SELECT id FROM piecework_batch INDEXED BY piecework_batch_dead
WHERE state IN ('failed', 'stopped') AND open > 0 AND id >= :after ORDER BY id LIMIT :limit
