SELECT id, run, state, settled FROM piecework_job WHERE id IN (SELECT value FROM json_each(:ids))
