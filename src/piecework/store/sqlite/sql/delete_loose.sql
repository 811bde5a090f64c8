-- Batches without a continuation, once their last piece is gone.
DELETE FROM piecework_batch
WHERE id IN (SELECT value FROM json_each(:ids)) AND "then" IS NULL AND state <> 'open' AND total = 0
