UPDATE piecework_part AS p
SET state = CASE WHEN e.value ->> 3 IS NULL THEN 'done' ELSE 'failed' END,
    failures = failures + (e.value ->> 3 IS NOT NULL),
    ended_at = :moment, call = e.value ->> 1, result = e.value ->> 2, error = e.value ->> 3
FROM json_each(:rows) AS e
WHERE p.job = :job AND p.name = e.value ->> 0
