-- The batches among these that have come to their end, and what it is.
SELECT id, CASE WHEN failed + cancelled > 0 AND on_failure <> 'compose' THEN 'failed' ELSE 'done' END
FROM piecework_batch
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'open' AND sealed = 1 AND open = 0
