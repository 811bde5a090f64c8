UPDATE piecework_job SET stopped_by = :by, stopped_at = :now WHERE id IN (SELECT value FROM json_each(:ids))
