INSERT INTO piecework_plan (digest, plan)
SELECT s.digest, s.plan FROM json_to_recordset(:rows::json) AS s (digest text, plan text) ORDER BY s.digest
ON CONFLICT DO NOTHING
