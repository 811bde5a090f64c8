SELECT 1 FROM piecework_job WHERE id = :id AND run = :run AND state = 'running'
