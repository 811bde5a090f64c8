-- A page of the pieces of a dead batch, from the end, and which of them have not started.
SELECT min(ordinal), count(*), json_group_array(id) FILTER (WHERE state = 'available' OR state = 'waiting') FROM (
    SELECT id, state, ordinal FROM piecework_job
    WHERE batch = :batch AND ordinal < :below ORDER BY ordinal DESC LIMIT :limit
)
