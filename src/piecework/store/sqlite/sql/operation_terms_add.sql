INSERT INTO piecework_term (operation, global, term)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:rows)
WHERE true
ON CONFLICT DO NOTHING
