SELECT id, queue, state, batch, finished_at, cursor IS NOT NULL FROM {jobs}
WHERE ({where}) AND state IN ('available', 'running', 'waiting', 'parked') AND stopping = 0
  -- One that is being undone, or will be, needs not be told again.
  AND NOT (:undo AND EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = seq AND o.ending IS NOT NULL))
ORDER BY {order} LIMIT :limit
