-- The signal has come: what is next is due, or will be when the wait says.
UPDATE piecework_job AS j SET state = 'available', due = s.run_at <= :now, run_at = s.run_at
FROM (
    SELECT o.job, greatest(:now + coalesce((o.wait::json ->> 4)::float8, 0), (o.wait::json ->> 5)::float8) AS run_at
    FROM piecework_operation AS o
    WHERE o.job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
) AS s
WHERE j.seq = s.job AND j.state = 'waiting'
