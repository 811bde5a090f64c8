-- The common case in its shortest form: runs of the same number that completed without a result.
UPDATE piecework_job
SET state = 'completed', finished_at = :now, settled = run, attempt = :attempt, result = NULL, error = NULL, reason = NULL, stopping = 0
WHERE id IN (SELECT value FROM json_each(:ids)) AND run = :run AND state = 'running'
