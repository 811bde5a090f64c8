-- Each end in its own order, a page at most, and then the first of those: a million failures are not sorted for one page.
SELECT f.ordinal, f.piece, f.id, f.task, f.state, f.result, f.error
FROM (VALUES ('failed'), ('cancelled'), ('parked')) AS ended (state)
CROSS JOIN LATERAL (
    SELECT ordinal, piece, id, task, state, result, error FROM piecework_job
    WHERE state IN ('failed', 'cancelled', 'parked') AND state = ended.state AND batch = :batch AND ordinal > :after
    ORDER BY ordinal LIMIT :limit
) AS f
ORDER BY f.ordinal LIMIT :limit
