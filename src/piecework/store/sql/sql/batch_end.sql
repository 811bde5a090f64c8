UPDATE piecework_batch SET state = :state, finished_at = :now WHERE id = :id AND state = 'open'
