UPDATE piecework_job AS j
SET state = 'available', attempt = 0, crashes = 0, stopping = 0, error = NULL, reason = NULL, finished_at = NULL, expires_at = NULL,
    stopped_by = NULL, stopped_at = NULL,
    due = 1, run_at = :now
WHERE j.batch = :batch AND (state = 'failed' OR state = 'cancelled' OR state = 'parked')
  AND (NOT :resume OR state = 'cancelled')
  AND j.key IS NULL AND j.below IS NULL
