SELECT id FROM {jobs}
WHERE ({where}) AND state IN ('failed', 'cancelled', 'parked') AND (NOT :resume OR state = 'cancelled')
ORDER BY {order} LIMIT :limit
