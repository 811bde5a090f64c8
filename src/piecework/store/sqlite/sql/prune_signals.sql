DELETE FROM piecework_signal WHERE job IN (SELECT value FROM json_each(:ids))
