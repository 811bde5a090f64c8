UPDATE piecework_job SET status = :status, status_at = :now WHERE id = :id AND run = :run AND state = 'running'
