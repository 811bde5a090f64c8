-- Locked, so that a run that ends just now begins to wait before this or sees what this keeps. One that did not end well
-- may be brought back, and waits again then.
SELECT j.id FROM piecework_job AS j
WHERE j.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND j.state <> 'completed'
  AND EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = j.seq)
ORDER BY j.id
FOR NO KEY UPDATE
