SELECT 1 FROM piecework_job AS j JOIN piecework_operation AS o ON o.job = j.seq
WHERE j.id = :id AND (j.state = 'available' OR j.state = 'running' OR j.state = 'waiting' OR j.state = 'parked')
