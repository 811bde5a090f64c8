SELECT id FROM piecework_batch WHERE id IN (SELECT value FROM json_each(:ids)) AND always AND state = 'failed'
