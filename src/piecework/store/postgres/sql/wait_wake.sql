-- Due since its time came, whoever noticed it when.
UPDATE piecework_job AS j SET state = 'available', due = true, run_at = o.wake_at
FROM piecework_operation AS o
WHERE j.seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint)) AND o.job = j.seq AND j.state = 'waiting'
