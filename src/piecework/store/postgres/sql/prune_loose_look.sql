-- A page of the batches without a continuation, from the one that ended first, and whether all their pieces are gone.
SELECT b.finished_at, b.id, NOT EXISTS (SELECT 1 FROM piecework_job AS j WHERE j.batch = b.id)
FROM piecework_batch AS b
WHERE b."then" IS NULL AND b.finished_at < :before AND (b.finished_at, b.id) > (:after, :id)
ORDER BY b.finished_at, b.id LIMIT :limit
