INSERT INTO piecework_amendment (job, id, run, what, by, reason, at, cursor_before, cursor, changes)
SELECT j.id, s.value ->> 1, j.run, s.value ->> 2, s.value ->> 3, s.value ->> 4, :now, j.cursor, s.value ->> 5, s.value ->> 6
FROM json_each(:rows) AS s JOIN piecework_job AS j ON j.id = s.value ->> 0
