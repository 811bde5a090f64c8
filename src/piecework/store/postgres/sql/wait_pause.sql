-- They wait no longer, but will again, for as long, should they be brought back.
UPDATE piecework_operation AS o SET wake_at = NULL
FROM json_array_elements_text(:ids::json) AS s (id) JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq AND o.wake_at IS NOT NULL
