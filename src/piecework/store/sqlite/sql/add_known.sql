SELECT count(*) FROM piecework_job WHERE id IN (SELECT value FROM json_each(:ids))
