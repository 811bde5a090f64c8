UPDATE piecework_job SET state = 'cancelled', finished_at = :now, reason = :reason, stopping = 0
WHERE id IN (SELECT value FROM json_each(:ids))
