-- The common case in its shortest form: runs of the same number that completed without a result.
-- The fence is one condition, so that the planner goes by id, and not through all that run.
UPDATE piecework_job
SET state = 'completed', finished_at = :now, settled = run, attempt = :attempt, result = NULL, error = NULL, reason = NULL,
    stopping = 0
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND CASE state WHEN 'running' THEN run = :run ELSE false END
