-- What belongs to those of these jobs that are operations.
SELECT j.id, o.digest, o.globals, o.wait, o.received, o.ending
FROM json_array_elements_text(:ids::json) AS s (id)
JOIN piecework_job AS j ON j.id = s.id
JOIN piecework_operation AS o ON o.job = j.seq
