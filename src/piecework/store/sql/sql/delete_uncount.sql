UPDATE piecework_batch
SET total = total - :total, open = open - :open, completed = completed - :completed, failed = failed - :failed,
    cancelled = cancelled - :cancelled
WHERE id = :id
