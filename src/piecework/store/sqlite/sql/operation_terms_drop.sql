DELETE FROM piecework_term
WHERE (operation, global) IN (SELECT value ->> 0, value ->> 1 FROM json_each(:rows))
