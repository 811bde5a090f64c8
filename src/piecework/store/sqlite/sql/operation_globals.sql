SELECT j.id, o.job, o.globals
FROM json_each(:ids) AS s
JOIN piecework_job AS j ON j.id = s.value
JOIN piecework_operation AS o ON o.job = j.seq
