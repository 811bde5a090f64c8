-- Jobs whose time has come join the line: the line's index never holds a future job.
UPDATE piecework_job SET due = 1
WHERE seq IN (
    SELECT seq FROM piecework_job INDEXED BY piecework_job_later
    WHERE state = 'available' AND due = 0 AND run_at <= :now
    ORDER BY run_at LIMIT 1000
)
