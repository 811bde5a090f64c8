UPDATE piecework_distributed SET token = NULL, expires_at = :now
WHERE token = ANY(ARRAY(SELECT json_array_elements_text(:tokens::json))) AND (expires_at IS NULL OR expires_at > :now)
