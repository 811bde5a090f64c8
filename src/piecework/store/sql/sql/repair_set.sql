UPDATE piecework_batch
SET total = :total, open = :open, completed = :completed, failed = :failed, cancelled = :cancelled WHERE id = :id
