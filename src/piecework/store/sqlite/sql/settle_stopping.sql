SELECT id, reason FROM piecework_job
WHERE id IN (SELECT value FROM json_each(:ids)) AND stopping = 1 AND state = 'running'
