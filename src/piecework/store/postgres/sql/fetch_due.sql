-- Seconds until the next job joins the line, and until the next one's time to be begun is over.
SELECT (SELECT min(run_at) FROM piecework_job WHERE state = 'available' AND NOT due) - :now,
       (SELECT min(expires_at) FROM piecework_job WHERE expires_at IS NOT NULL AND state = 'available') - :now
