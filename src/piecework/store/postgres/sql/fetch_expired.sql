SELECT id, queue, state, batch, NULL FROM piecework_job
WHERE expires_at IS NOT NULL AND state = 'available' AND expires_at <= :now
ORDER BY expires_at, seq LIMIT :limit
