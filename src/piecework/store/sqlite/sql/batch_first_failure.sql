SELECT coalesce(piece, ordinal), state, error, reason FROM piecework_job INDEXED BY piecework_job_ended
WHERE batch = :batch AND (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND finished_at IS NOT NULL
ORDER BY state = 'cancelled', ordinal LIMIT 1
