SELECT json_group_array(json_array(ordinal, piece, id, task, state, result, json(error))) FROM (
    SELECT * FROM piecework_job INDEXED BY piecework_job_ended
    WHERE batch = :batch AND (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND ordinal > :after ORDER BY ordinal LIMIT :limit
)
