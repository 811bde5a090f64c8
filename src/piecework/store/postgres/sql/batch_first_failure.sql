-- The first of each end, and of those the one that tells most.
SELECT coalesce(f.piece, f.ordinal::text), f.state, f.error, f.reason
FROM (VALUES ('failed'), ('cancelled'), ('parked')) AS ended (state)
CROSS JOIN LATERAL (
    SELECT piece, ordinal, state, error, reason FROM piecework_job
    WHERE state IN ('failed', 'cancelled', 'parked') AND state = ended.state
      AND batch = :batch AND finished_at IS NOT NULL
    ORDER BY ordinal LIMIT 1
) AS f
ORDER BY f.state = 'cancelled', f.ordinal LIMIT 1
