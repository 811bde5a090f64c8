SELECT id FROM piecework_job
WHERE ({where}) AND state IN ('failed', 'cancelled', 'parked') AND (NOT :resume OR state = 'cancelled')
ORDER BY seq LIMIT :limit
