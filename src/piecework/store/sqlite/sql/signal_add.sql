INSERT INTO piecework_signal (job, id, name, payload, by, at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, :now FROM json_each(:rows)
WHERE true
ON CONFLICT DO NOTHING
