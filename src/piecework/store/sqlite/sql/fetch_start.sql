UPDATE piecework_job
SET state = 'running', run = run + 1, worker = :worker, claim = :claim, started_at = :now
WHERE seq IN (SELECT value FROM json_each(:seqs))
