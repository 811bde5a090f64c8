SELECT j.id, j.seq, j.queue, j.state, j.cursor, o.awaits IS NOT NULL, j.batch IS NULL AND j.below IS NULL,
       o.wait IS NOT NULL AND o.received IS NULL, j.key, EXISTS (
           SELECT 1 FROM piecework_job AS k
           WHERE k.key = j.key AND k.id <> j.id
             AND (k.state = 'available' OR k.state = 'running' OR k.state = 'waiting' OR k.state = 'parked')
       )
FROM json_each(:ids) AS s
JOIN piecework_job AS j ON j.id = s.value
JOIN piecework_operation AS o ON o.job = j.seq
