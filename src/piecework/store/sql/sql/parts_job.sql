SELECT seq, token, producer, created_at, changed_at, ttl, total, open, failed, sealed, complete, expected, push_error, last, ended_at,
    expires_at, stopped_at, stopped_by, reason, base_at, base_ended, "then", then_at, otherwise, otherwise_at, calls
FROM piecework_distributed
WHERE token = :token AND (expires_at IS NULL OR expires_at > :now)
