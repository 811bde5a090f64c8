SELECT j.id, o.digest, o.globals, o.key, o.wait, o.received, o.ending, o.forked_from, o.forked_after
FROM json_each(:ids) AS s
JOIN piecework_job AS j ON j.id = s.value
JOIN piecework_operation AS o ON o.job = j.seq
