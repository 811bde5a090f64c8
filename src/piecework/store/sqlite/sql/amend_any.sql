SELECT 1 FROM piecework_amendment LIMIT 1
