SELECT seq FROM piecework_distributed WHERE expires_at <= :now ORDER BY expires_at, seq LIMIT 20
