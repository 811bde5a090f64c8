UPDATE piecework_job SET stopping = 1, reason = :reason
WHERE state = 'running' AND batch IN (SELECT value FROM json_each(:batches)) AND stopping = 0
