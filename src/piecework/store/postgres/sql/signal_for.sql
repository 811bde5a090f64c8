-- Locked, so that a run that ends just now begins to wait before this or sees what this keeps. One that did not end well
-- may be brought back, and waits again then.
SELECT 1 FROM piecework_job AS j
WHERE j.id = :id AND j.state <> 'completed' AND EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = j.seq)
FOR NO KEY UPDATE
