-- From the end: what has not started is there. A bounded look, because all that it passes may have ended.
SELECT count(*), json_group_array(json_array(id, queue, state, batch)) FILTER (WHERE state = 'available') FROM (
    SELECT * FROM piecework_job WHERE batch = :batch ORDER BY ordinal DESC LIMIT :limit
)
