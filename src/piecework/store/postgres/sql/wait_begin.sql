UPDATE piecework_operation AS o SET wait = s.wait, awaits = s.name, wake_at = :now + s.timeout, received = NULL
FROM json_to_recordset(:rows::json) AS s (id text, wait text, name text, timeout float8)
JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq
