UPDATE piecework_job SET stopping = 1, reason = :reason
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'running'
