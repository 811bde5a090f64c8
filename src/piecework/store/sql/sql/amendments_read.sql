SELECT id, job, run, what, by, reason, at, cursor_before, cursor, changes
FROM piecework_amendment WHERE job = :id ORDER BY seq
