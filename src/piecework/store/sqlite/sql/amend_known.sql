SELECT a.job, a.id FROM json_each(:rows) AS s
JOIN piecework_amendment AS a ON a.job = s.value ->> 0 AND a.id = s.value ->> 1
