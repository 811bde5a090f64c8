SELECT id FROM piecework_job WHERE state = 'running' AND worker = :worker AND stopping <> 0
