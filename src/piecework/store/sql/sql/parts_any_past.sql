SELECT 1 FROM piecework_distributed WHERE expires_at <= :now LIMIT 1
