-- Jobs whose time has come join the line: the line's index never holds a future job.
UPDATE piecework_job SET due = true
WHERE seq = ANY(ARRAY(
    SELECT seq FROM piecework_job
    WHERE state = 'available' AND NOT due AND run_at <= :now
    ORDER BY run_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
))
