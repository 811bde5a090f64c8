-- One look, so that counters and pieces are of the same moment: has it come to its end unnoticed, or is a counter wrong?
SELECT (b.sealed = 1 AND b.open = 0) OR (b.total, b.open, b.completed, b.failed, b.cancelled) IS DISTINCT FROM (
    t.total, t.open, t.completed, t.failed, t.cancelled
)
FROM piecework_batch AS b, LATERAL (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE finished_at IS NULL) AS open,
           count(*) FILTER (WHERE state = 'completed' AND finished_at IS NOT NULL) AS completed,
           count(*) FILTER (WHERE state IN ('failed', 'parked') AND finished_at IS NOT NULL) AS failed,
           count(*) FILTER (WHERE state = 'cancelled' AND finished_at IS NOT NULL) AS cancelled
    FROM piecework_job WHERE batch = :id
) AS t
WHERE b.id = :id
