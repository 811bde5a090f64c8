UPDATE piecework_batch
SET open = open + :failed + :cancelled, failed = failed - :failed, cancelled = cancelled - :cancelled
WHERE id = :id
