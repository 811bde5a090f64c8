UPDATE piecework_operation AS o SET globals = s.globals
FROM (SELECT value ->> 0 AS job, value ->> 1 AS globals FROM json_each(:rows)) AS s
WHERE o.job = s.job
