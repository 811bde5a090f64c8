SELECT seq, queue, state, finished_at IS NOT NULL FROM piecework_job
WHERE batch = :batch AND state IN ('failed', 'cancelled', 'parked') AND (NOT :resume OR state = 'cancelled')
  AND key IS NULL AND below IS NULL AND cursor IS NULL
LIMIT :limit
