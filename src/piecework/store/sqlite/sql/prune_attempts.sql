DELETE FROM piecework_attempt WHERE job IN (SELECT value FROM json_each(:ids))
