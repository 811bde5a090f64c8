UPDATE piecework_batch SET state = 'open', finished_at = NULL WHERE id = :id AND state IN ('failed', 'stopped')
