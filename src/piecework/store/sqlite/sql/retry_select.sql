SELECT id FROM {jobs}
WHERE ({where}) AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
  AND (NOT :resume OR state = 'cancelled')
ORDER BY {order} LIMIT :limit
