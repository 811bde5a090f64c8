SELECT id, run FROM piecework_job WHERE state = 'running' AND worker = :worker
