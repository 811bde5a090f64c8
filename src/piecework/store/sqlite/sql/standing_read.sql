-- The newest job of an identity, whether any of its jobs is under way, and which one set a status last: a look into an
-- index for each, however many have ended. A task has had one name, or a few.
WITH named (task) AS (SELECT value FROM json_each(:tasks)),
newest (seq) AS (
    SELECT max(found) FROM (
        SELECT (
            SELECT max(seq) FROM piecework_job INDEXED BY piecework_job_identity
            WHERE identity = :identity AND task = named.task
        ) AS found
        FROM named
    )
),
said (seq, at) AS (
    SELECT j.seq, j.status_at
    FROM named CROSS JOIN piecework_job AS j ON j.seq = (
        SELECT seq FROM piecework_job INDEXED BY piecework_job_status
        WHERE identity = :identity AND task = named.task AND status_at IS NOT NULL
        ORDER BY status_at DESC, seq DESC LIMIT 1
    )
    ORDER BY j.status_at DESC, j.seq DESC LIMIT 1
)
SELECT j.id, j.state, EXISTS (
    SELECT 1 FROM named CROSS JOIN piecework_job AS b INDEXED BY piecework_job_busy
    ON b.identity = :identity AND b.task = named.task
        AND (b.state = 'available' OR b.state = 'running' OR b.state = 'waiting')
), s.status, s.id, s.status_at
FROM newest CROSS JOIN piecework_job AS j ON j.seq = newest.seq
LEFT JOIN piecework_job AS s ON s.seq = (SELECT seq FROM said)
