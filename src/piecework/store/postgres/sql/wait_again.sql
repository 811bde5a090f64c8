UPDATE piecework_operation AS o SET awaits = o.wait::json ->> 0, wake_at = :now + (o.wait::json ->> 1)::float8
FROM json_array_elements_text(:ids::json) AS s (id) JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq
