DELETE FROM piecework_batch
WHERE id IN (SELECT value FROM json_each(:ids)) AND "then" IS NULL AND finished_at < :before
  AND NOT EXISTS (SELECT 1 FROM piecework_job WHERE batch = piecework_batch.id)
