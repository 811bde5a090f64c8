SELECT number, name, state, failures, ended_at, result, error FROM piecework_part INDEXED BY piecework_part_open
WHERE job = :job AND number > :after AND state = 'open'
ORDER BY number LIMIT :limit
