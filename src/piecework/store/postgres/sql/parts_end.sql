UPDATE piecework_part AS p
SET state = CASE WHEN e.v ->> 4 IS NULL THEN 'done' ELSE 'failed' END,
    failures = failures + (e.v ->> 4 IS NOT NULL)::integer,
    ended_at = :moment, call = e.v ->> 2, result = e.v ->> 3, error = e.v ->> 4
FROM json_array_elements(:rows::json) AS e (v)
WHERE p.job = (e.v ->> 0)::bigint AND p.number = (e.v ->> 1)::integer
