-- What an operation that completed as a piece came to, for whoever composes.
UPDATE piecework_job SET result = (SELECT o.globals FROM piecework_operation AS o WHERE o.job = seq)
WHERE id IN (SELECT value FROM json_each(:ids))
