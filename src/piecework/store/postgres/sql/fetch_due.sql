-- Seconds until the next job joins the line, the next one's time to be begun is over, and the next one stops waiting.
SELECT (SELECT min(run_at) FROM piecework_job WHERE state = 'available' AND NOT due) - :now,
       (SELECT min(expires_at) FROM piecework_job WHERE expires_at IS NOT NULL AND state = 'available') - :now,
       (SELECT min(wake_at) FROM piecework_operation WHERE wake_at IS NOT NULL) - :now
