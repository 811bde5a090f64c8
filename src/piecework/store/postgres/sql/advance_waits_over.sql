-- What they waited for before is over; of most, there was nothing.
UPDATE piecework_operation AS o
SET wait = NULL, awaits = NULL, wake_at = NULL, received = NULL
FROM json_array_elements_text(:ids::json) AS s (id) JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq AND o.wait IS NOT NULL
