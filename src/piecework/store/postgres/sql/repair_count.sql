SELECT count(*),
       count(*) FILTER (WHERE finished_at IS NULL),
       count(*) FILTER (WHERE state = 'completed' AND finished_at IS NOT NULL),
       count(*) FILTER (WHERE state IN ('failed', 'parked') AND finished_at IS NOT NULL),
       count(*) FILTER (WHERE state = 'cancelled' AND finished_at IS NOT NULL)
FROM piecework_job WHERE batch = :batch
