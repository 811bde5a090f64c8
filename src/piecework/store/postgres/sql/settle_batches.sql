-- Those of them that this brings to their end are told, with what it is: all is settled, or a piece of one that fails fast
-- has failed.
UPDATE piecework_batch AS b
SET open = b.open - s.completed - s.failed - s.cancelled,
    completed = b.completed + s.completed,
    failed = b.failed + s.failed,
    cancelled = b.cancelled + s.cancelled
FROM json_to_recordset(:rows::json) AS s (id text, completed integer, failed integer, cancelled integer)
WHERE b.id = s.id
RETURNING b.id, CASE
    WHEN b.state <> 'open' THEN NULL
    WHEN b.on_failure = 'fail_fast' AND s.failed > 0 THEN 'failed'
    WHEN b.sealed <> 1 OR b.open > 0 THEN NULL
    WHEN b.failed + b.cancelled > 0 AND b.on_failure <> 'compose' THEN 'failed'
    ELSE 'done'
END
