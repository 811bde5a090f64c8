INSERT INTO piecework_plan (digest, plan)
SELECT value ->> 0, value ->> 1 FROM json_each(:rows) WHERE true
ON CONFLICT DO NOTHING
