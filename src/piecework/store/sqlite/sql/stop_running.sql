-- Those that run are few; the pieces of a batch may be a million.
UPDATE piecework_job INDEXED BY piecework_job_running SET stopping = 1, reason = :reason
WHERE state = 'running' AND batch IN (SELECT value FROM json_each(:batches)) AND stopping = 0
