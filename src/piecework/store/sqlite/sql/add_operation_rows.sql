INSERT INTO piecework_operation (job, digest, globals, key, forked_from, forked_after)
SELECT j.seq, s.value ->> 1, s.value ->> 2, s.value ->> 3, s.value ->> 4, s.value ->> 5
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0
