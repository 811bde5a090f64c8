DELETE FROM piecework_term AS t
USING json_to_recordset(:rows::json) AS s (operation bigint, "global" text)
WHERE t.operation = s.operation AND t."global" = s."global"
