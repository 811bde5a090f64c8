UPDATE piecework_job SET state = 'available', due = 1, run_at = :now
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'waiting'
