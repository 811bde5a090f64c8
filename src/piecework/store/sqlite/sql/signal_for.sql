-- One that did not end well may be brought back, and waits again then.
SELECT 1 FROM piecework_job AS j JOIN piecework_operation AS o ON o.job = j.seq
WHERE j.id = :id AND j.state <> 'completed'
