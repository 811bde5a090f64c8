SELECT number, name, state, failures, ended_at, result, error FROM piecework_part INDEXED BY piecework_part_failed
WHERE job = :job AND number > :after AND state = 'failed'
ORDER BY number LIMIT :limit
