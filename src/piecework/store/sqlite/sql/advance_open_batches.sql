SELECT id FROM piecework_batch INDEXED BY piecework_batch_step
WHERE always = 1 AND state = 'open' AND "then" IN (SELECT value FROM json_each(:ids))
