-- Pieces that need a look of their own: splits, operations, and jobs with a unique key.
SELECT id, ordinal FROM piecework_job
WHERE batch = :batch AND state IN ('failed', 'cancelled', 'parked') AND (NOT :resume OR state = 'cancelled')
  AND (key IS NOT NULL OR below IS NOT NULL OR cursor IS NOT NULL) AND ordinal > :after
ORDER BY ordinal LIMIT :limit
