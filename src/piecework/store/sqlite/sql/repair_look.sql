-- One look, so that counters and pieces are of the same moment: has it come to its end unnoticed, or is a counter wrong?
SELECT (b.sealed = 1 AND b.open = 0) OR (b.total, b.open, b.completed, b.failed, b.cancelled) IS NOT (
    SELECT count(*),
           coalesce(sum(finished_at IS NULL), 0),
           coalesce(sum(state = 'completed' AND finished_at IS NOT NULL), 0),
           coalesce(sum(state IN ('failed', 'parked') AND finished_at IS NOT NULL), 0),
           coalesce(sum(state = 'cancelled' AND finished_at IS NOT NULL), 0)
    FROM piecework_job WHERE batch = :id
)
FROM piecework_batch AS b WHERE b.id = :id
