INSERT INTO piecework_term (operation, "global", term)
SELECT s.operation, s."global", s.term FROM json_to_recordset(:rows::json) AS s (operation bigint, "global" text, term text)
ON CONFLICT DO NOTHING
