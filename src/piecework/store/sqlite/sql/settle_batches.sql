-- Those of them that this brings to their end are told, with what it is: all is settled, or a piece of one that fails fast
-- has failed.
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
RETURNING id, CASE
    WHEN state <> 'open' THEN NULL
    WHEN on_failure = 'fail_fast'
        AND id IN (SELECT value ->> 0 FROM json_each(:rows) WHERE value ->> 2 > 0) THEN 'failed'
    WHEN sealed <> 1 OR open > 0 THEN NULL
    WHEN failed + cancelled > 0 AND on_failure <> 'compose' THEN 'failed'
    ELSE 'done'
END
