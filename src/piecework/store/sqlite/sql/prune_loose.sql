-- Batches without a continuation, once their pieces are gone.
DELETE FROM piecework_batch WHERE id IN (
    SELECT id FROM piecework_batch AS b INDEXED BY piecework_batch_loose
    WHERE b."then" IS NULL AND b.finished_at < :before
      AND NOT EXISTS (SELECT 1 FROM piecework_job WHERE batch = b.id)
    LIMIT 100
)
