UPDATE piecework_part AS p
SET state = CASE WHEN e.v ->> 3 IS NULL THEN 'done' ELSE 'failed' END,
    failures = failures + (e.v ->> 3 IS NOT NULL)::integer,
    ended_at = :moment, call = e.v ->> 1, result = e.v ->> 2, error = e.v ->> 3
FROM json_array_elements(:rows::json) AS e (v)
WHERE p.job = :job AND p.name = e.v ->> 0
