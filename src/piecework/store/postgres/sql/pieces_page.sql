SELECT ordinal, piece, id, task, state, result, error FROM piecework_job
WHERE batch = :batch AND ordinal > :after ORDER BY ordinal LIMIT :limit
