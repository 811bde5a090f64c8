SELECT count(*),
       coalesce(sum(finished_at IS NULL), 0),
       coalesce(sum(state = 'completed' AND finished_at IS NOT NULL), 0),
       coalesce(sum(state IN ('failed', 'parked') AND finished_at IS NOT NULL), 0),
       coalesce(sum(state = 'cancelled' AND finished_at IS NOT NULL), 0)
FROM piecework_job WHERE batch = :batch
