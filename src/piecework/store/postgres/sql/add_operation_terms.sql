INSERT INTO piecework_term (operation, "global", term)
SELECT j.seq, s."global", s.term
FROM json_to_recordset(:rows::json) AS s (id text, "global" text, term text) JOIN piecework_job AS j ON j.id = s.id
ON CONFLICT DO NOTHING
