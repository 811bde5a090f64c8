-- The job is told with each row: were it one value, the planner would go through all parts of it for each of these.
UPDATE piecework_part AS p
SET state = CASE WHEN e.value ->> 4 IS NULL THEN 'done' ELSE 'failed' END,
    failures = failures + (e.value ->> 4 IS NOT NULL),
    ended_at = :moment, call = e.value ->> 2, result = e.value ->> 3, error = e.value ->> 4
FROM json_each(:rows) AS e
WHERE p.job = e.value ->> 0 AND p.number = e.value ->> 1
