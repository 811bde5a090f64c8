SELECT id FROM piecework_job WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'cancelled'
