SELECT number, name, state, failures, ended_at, result, error FROM piecework_part
WHERE job = :job AND number > :after AND state = 'done'
ORDER BY number LIMIT :limit
