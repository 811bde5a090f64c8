-- Found one by one, by their numbers; joined at once, the planner would read the whole table. Nobody moves them meanwhile:
-- the job's row is locked.
UPDATE piecework_part AS p
SET state = CASE WHEN e.v ->> 4 IS NULL THEN 'done' ELSE 'failed' END,
    failures = p.failures + (e.v ->> 4 IS NOT NULL)::integer,
    ended_at = :moment, call = e.v ->> 2, result = e.v ->> 3, error = e.v ->> 4
FROM json_array_elements(:rows::json) AS e (v)
CROSS JOIN LATERAL (
    SELECT ctid FROM piecework_part WHERE job = (e.v ->> 0)::bigint AND number = (e.v ->> 1)::integer LIMIT 1
) AS f
WHERE p.ctid = f.ctid
