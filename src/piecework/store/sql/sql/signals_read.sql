SELECT id, job, name, payload, by, at, taken_at FROM piecework_signal WHERE job = :id ORDER BY seq
