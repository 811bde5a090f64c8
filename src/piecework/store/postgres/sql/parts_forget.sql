UPDATE piecework_distributed SET token = NULL, expires_at = :now + :kept, forgot_by = :call
WHERE token = ANY(ARRAY(SELECT json_array_elements_text(:tokens::json))) AND (expires_at IS NULL OR expires_at > :now)
    AND NOT EXISTS (SELECT 1 FROM piecework_distributed WHERE forgot_by = :call)
