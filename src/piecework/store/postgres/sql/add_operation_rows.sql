INSERT INTO piecework_operation (job, digest, globals, key, forked_from, forked_after, wait, awaits, wake_at, received)
SELECT j.seq, s.digest, s.globals, s.key, s.forked_from, s.forked_after, s.wait, s.awaits, :now + s.timeout, s.received
FROM json_to_recordset(:rows::json) AS s (
    id text, digest text, globals text, key text, forked_from text, forked_after integer, wait text, awaits text,
    timeout float8, received text
)
JOIN piecework_job AS j ON j.id = s.id
