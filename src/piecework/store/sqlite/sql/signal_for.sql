-- One that did not end well may be brought back, and waits again then.
SELECT j.id FROM json_each(:ids) AS s
JOIN piecework_job AS j ON j.id = s.value AND j.state <> 'completed'
JOIN piecework_operation AS o ON o.job = j.seq
