DELETE FROM piecework_amendment WHERE job IN (SELECT value FROM json_each(:ids))
