INSERT INTO piecework_signal (job, id, name, payload, by, at)
SELECT s.job, s.id, s.name, s.payload, s.by, :now
FROM json_to_recordset(:rows::json) AS s (job text, id text, name text, payload text, by text)
ON CONFLICT DO NOTHING
