-- Many lines into one for each queue and state. Whoever reads meanwhile sees those from before or this one.
WITH gone AS (
    DELETE FROM piecework_tally
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM piecework_tally LIMIT 20000 FOR UPDATE SKIP LOCKED))
    RETURNING queue, state, n
)
INSERT INTO piecework_tally (queue, state, n)
SELECT queue, state, sum(n) FROM gone GROUP BY queue, state HAVING sum(n) <> 0
