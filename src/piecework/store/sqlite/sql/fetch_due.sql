-- When the next job joins the line, when the next one's time to be begun is over, and when the next one stops waiting.
SELECT (SELECT min(run_at) FROM piecework_job INDEXED BY piecework_job_later WHERE state = 'available' AND due = 0),
       (SELECT min(expires_at) FROM piecework_job INDEXED BY piecework_job_expiry
        WHERE expires_at IS NOT NULL AND state = 'available'),
       (SELECT min(wake_at) FROM piecework_operation WHERE wake_at IS NOT NULL)
