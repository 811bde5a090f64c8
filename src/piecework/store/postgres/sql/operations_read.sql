SELECT j.id, o.digest, o.globals, o.key, o.wait, o.received, o.ending, o.forked_from, o.forked_after
FROM json_array_elements_text(:ids::json) AS s (id)
JOIN piecework_job AS j ON j.id = s.id
JOIN piecework_operation AS o ON o.job = j.seq
