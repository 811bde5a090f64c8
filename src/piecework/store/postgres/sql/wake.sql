-- Once for all who sleep: who is woken lies down again before the next one is needed.
WITH awake AS (
    DELETE FROM piecework_sleeper
    WHERE id = ANY(ARRAY(SELECT id FROM piecework_sleeper FOR UPDATE SKIP LOCKED))
    RETURNING id
)
SELECT pg_notify(:channel, '') FROM (SELECT count(*) AS n FROM awake) AS a WHERE a.n > 0
