UPDATE piecework_batch SET state = 'stopped', finished_at = :now
WHERE id IN (SELECT value FROM json_each(:batches)) AND id <> :top AND state = 'open'
