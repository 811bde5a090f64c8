UPDATE piecework_job SET stopping = :how, reason = :reason, stopped_by = coalesce(:by, stopped_by),
    stopped_at = CASE WHEN :by IS NULL THEN stopped_at ELSE :now END
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'running'
