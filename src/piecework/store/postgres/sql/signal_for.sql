-- Locked, so that a run that ends just now begins to wait before this or sees what this keeps.
SELECT 1 FROM piecework_job AS j
WHERE j.id = :id AND j.state IN ('available', 'running', 'waiting', 'parked')
  AND EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = j.seq)
FOR NO KEY UPDATE
