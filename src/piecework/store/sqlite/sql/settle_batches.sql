UPDATE piecework_batch AS b
SET open = b.open - s.completed - s.failed - s.cancelled,
    completed = b.completed + s.completed,
    failed = b.failed + s.failed,
    cancelled = b.cancelled + s.cancelled
FROM (
    SELECT value ->> 0 AS id, value ->> 1 AS completed, value ->> 2 AS failed, value ->> 3 AS cancelled
    FROM json_each(:rows)
) AS s
WHERE b.id = s.id
