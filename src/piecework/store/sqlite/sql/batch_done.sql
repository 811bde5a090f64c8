UPDATE piecework_batch SET state = 'done', finished_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'open'
