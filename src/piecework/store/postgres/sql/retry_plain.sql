-- Those of these jobs with which nothing else has to come back: of each its queue, its state, whether it is an operation,
-- whether it waits for a signal then, its key, and whether another carries that.
SELECT j.id, j.queue, j.state, o.job IS NOT NULL, o.wait IS NOT NULL AND o.received IS NULL, j.key, EXISTS (
           SELECT 1 FROM piecework_job AS k
           WHERE k.key = j.key AND k.id <> j.id AND k.key IS NOT NULL
             AND k.state IN ('available', 'running', 'waiting', 'parked')
       )
FROM json_array_elements_text(:ids::json) AS s (id)
JOIN piecework_job AS j ON j.id = s.id
LEFT JOIN piecework_operation AS o ON o.job = j.seq
WHERE j.state IN ('failed', 'cancelled', 'parked') AND j.batch IS NULL AND j.below IS NULL
