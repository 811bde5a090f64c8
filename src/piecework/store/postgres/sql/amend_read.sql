SELECT j.id, j.seq, j.queue, j.state, j.cursor, o.awaits IS NOT NULL, j.batch IS NULL AND j.below IS NULL,
       o.wait IS NOT NULL AND o.received IS NULL, j.key, EXISTS (
           SELECT 1 FROM piecework_job AS k
           WHERE k.key = j.key AND k.id <> j.id AND k.key IS NOT NULL
             AND k.state IN ('available', 'running', 'waiting', 'parked')
       )
FROM json_array_elements_text(:ids::json) AS s (id)
JOIN piecework_job AS j ON j.id = s.id
JOIN piecework_operation AS o ON o.job = j.seq
