SELECT id, queue, state, batch FROM piecework_job INDEXED BY piecework_job_waiting
WHERE state = 'waiting' AND batch IN (SELECT value FROM json_each(:batches))
