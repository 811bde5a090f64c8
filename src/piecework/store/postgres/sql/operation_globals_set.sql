UPDATE piecework_operation AS o SET globals = s.globals
FROM json_to_recordset(:rows::json) AS s (job bigint, globals text)
WHERE o.job = s.job
