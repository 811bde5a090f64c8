INSERT INTO piecework_term (operation, global, term)
SELECT j.seq, s.value ->> 1, s.value ->> 2
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0
WHERE true
ON CONFLICT DO NOTHING
