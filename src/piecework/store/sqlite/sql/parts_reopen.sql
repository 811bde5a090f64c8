UPDATE piecework_part SET state = 'open', ended_at = NULL, call = NULL, result = NULL, error = NULL
WHERE job = :job AND number IN (
    SELECT number FROM piecework_part INDEXED BY piecework_part_failed
    WHERE job = :job AND state = 'failed' ORDER BY number LIMIT :limit
)
