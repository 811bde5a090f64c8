-- Due since its time came, whoever noticed it when.
UPDATE piecework_job AS j SET state = 'available', due = 1, run_at = o.wake_at
FROM piecework_operation AS o
WHERE j.seq IN (SELECT value FROM json_each(:seqs)) AND o.job = j.seq AND j.state = 'waiting'
