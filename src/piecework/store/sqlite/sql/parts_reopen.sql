UPDATE piecework_part SET state = 'open', ended_at = NULL, call = NULL, result = NULL, error = NULL
WHERE job = :job AND state = 'failed'
