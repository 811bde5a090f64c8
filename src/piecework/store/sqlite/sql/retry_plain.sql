-- Those of these jobs with which nothing else has to come back, and which nothing keeps from it: of each its queue, its
-- state, whether it is an operation, and whether it waits for a signal then.
SELECT j.id, j.queue, j.state, o.job IS NOT NULL, o.wait IS NOT NULL AND o.received IS NULL
FROM json_each(:ids) AS s
CROSS JOIN piecework_job AS j ON j.id = s.value
LEFT JOIN piecework_operation AS o ON o.job = j.seq
WHERE (j.state = 'failed' OR j.state = 'cancelled' OR j.state = 'parked')
  AND j.batch IS NULL AND j.key IS NULL AND j.below IS NULL
