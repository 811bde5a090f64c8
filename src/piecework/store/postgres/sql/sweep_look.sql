-- A page of the pieces of a dead batch, from the end, and which of them have not started.
SELECT min(ordinal), count(*), coalesce(json_agg(id) FILTER (WHERE state IN ('available', 'waiting')), '[]')::text FROM (
    SELECT id, state, ordinal FROM piecework_job
    WHERE batch = :batch AND ordinal < :below ORDER BY ordinal DESC LIMIT :limit
) AS j
