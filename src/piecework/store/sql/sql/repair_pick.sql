SELECT id FROM piecework_batch WHERE state = 'open' AND id > :after AND total <= 100000 ORDER BY id LIMIT :limit
