UPDATE piecework_distributed SET token = NULL, expires_at = :now
WHERE token IN (SELECT value FROM json_each(:tokens)) AND (expires_at IS NULL OR expires_at > :now)
