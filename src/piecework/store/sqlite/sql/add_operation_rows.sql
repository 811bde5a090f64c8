INSERT INTO piecework_operation (job, digest, globals, key, forked_from, forked_after, wait, awaits, wake_at, received)
SELECT j.seq, s.value ->> 1, s.value ->> 2, s.value ->> 3, s.value ->> 4, s.value ->> 5,
       s.value ->> 6, s.value ->> 7, :now + (s.value ->> 8), s.value ->> 9
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0
