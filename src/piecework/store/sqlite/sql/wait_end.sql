-- The signal has come: what is next is due, or will be when the wait says.
UPDATE piecework_job AS j SET state = 'available', due = s.run_at <= :now, run_at = s.run_at
FROM (
    SELECT job, max(:now + coalesce(wait ->> 4, 0), coalesce(wait ->> 5, 0)) AS run_at
    FROM piecework_operation WHERE job IN (SELECT value FROM json_each(:seqs))
) AS s
WHERE j.seq = s.job AND j.state = 'waiting'
