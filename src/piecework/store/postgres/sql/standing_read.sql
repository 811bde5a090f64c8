-- The newest job of an identity, whether any of its jobs is under way, and which one set a status last: a look into an
-- index for each, however many have ended. A task has had one name, or a few.
WITH named (task) AS MATERIALIZED (SELECT json_array_elements_text(:tasks::json) COLLATE "C"),
newest AS (
    SELECT j.* FROM named CROSS JOIN LATERAL (
        SELECT n.id, n.state, n.seq FROM piecework_job AS n
        WHERE n.identity = :identity AND n.task = named.task ORDER BY n.identity, n.task, n.seq DESC LIMIT 1
    ) AS j
    ORDER BY j.seq DESC LIMIT 1
),
said AS (
    SELECT j.* FROM named CROSS JOIN LATERAL (
        SELECT n.id, n.status, n.status_at, n.seq FROM piecework_job AS n
        WHERE n.identity = :identity AND n.task = named.task AND n.status_at IS NOT NULL
        ORDER BY n.identity, n.task, n.status_at DESC, n.seq DESC LIMIT 1
    ) AS j
    ORDER BY j.status_at DESC, j.seq DESC LIMIT 1
)
SELECT newest.id, newest.state, (
    SELECT bool_or(EXISTS (
        SELECT 1 FROM piecework_job AS b
        WHERE b.identity = :identity AND b.task = named.task AND b.state IN ('available', 'running', 'waiting')
    )) FROM named
), said.status, said.id, said.status_at
FROM newest LEFT JOIN said ON true
