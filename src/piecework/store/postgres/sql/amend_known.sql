SELECT a.job, a.id FROM json_to_recordset(:rows::json) AS s (job text, id text)
JOIN piecework_amendment AS a ON a.job = s.job AND a.id = s.id
