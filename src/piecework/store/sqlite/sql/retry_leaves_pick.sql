SELECT j.seq, j.queue, j.state, j.finished_at IS NOT NULL FROM piecework_job AS j INDEXED BY piecework_job_ended
WHERE j.batch = :batch AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
  AND (NOT :resume OR state = 'cancelled')
  AND j.key IS NULL AND j.below IS NULL AND j.cursor IS NULL
LIMIT :limit
