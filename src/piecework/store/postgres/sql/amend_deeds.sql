-- A line for each of these jobs that is an operation. How many lines it has already makes the id its own.
INSERT INTO piecework_amendment (job, id, run, what, by, reason, at, cursor_before)
SELECT j.id,
       :what || '/' || j.run || '/' || (SELECT count(*) FROM piecework_amendment AS a WHERE a.job = j.id),
       j.run, :what, :by, :reason, :now, j.cursor
FROM json_array_elements_text(:ids::json) WITH ORDINALITY AS s (id, place)
JOIN piecework_job AS j ON j.id = s.id
JOIN piecework_operation AS o ON o.job = j.seq
ORDER BY s.place
