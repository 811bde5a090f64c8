SELECT j.seq, j.queue, j.state, j.cursor, o.awaits IS NOT NULL
FROM piecework_job AS j JOIN piecework_operation AS o ON o.job = j.seq WHERE j.id = :id
