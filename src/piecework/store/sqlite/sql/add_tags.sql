-- The tags of the jobs as they are stored: of one that was there before, they are there, too.
INSERT INTO piecework_tag (tag, job)
SELECT t.value, j.seq
FROM json_each(:ids) AS s CROSS JOIN piecework_job AS j ON j.id = s.value CROSS JOIN json_each(j.tags) AS t
WHERE true
ON CONFLICT DO NOTHING
