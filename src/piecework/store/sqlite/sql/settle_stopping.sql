SELECT id, reason, stopping FROM piecework_job
WHERE id IN (SELECT value FROM json_each(:ids)) AND stopping <> 0 AND state = 'running'
