-- Pieces that need a look of their own: splits, operations, and jobs with a unique key.
SELECT j.id, j.ordinal FROM piecework_job AS j INDEXED BY piecework_job_ended
WHERE j.batch = :batch AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
  AND (NOT :resume OR state = 'cancelled')
  AND (j.key IS NOT NULL OR j.below IS NOT NULL OR j.cursor IS NOT NULL) AND j.ordinal > :after
ORDER BY j.ordinal LIMIT :limit
