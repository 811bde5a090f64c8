SELECT json_group_array(json_array(ordinal, piece, id, task, state, result, json(error))) FROM (
    SELECT * FROM piecework_job WHERE batch = :batch AND ordinal > :after ORDER BY ordinal LIMIT :limit
)
