-- A whole fetch in one step: what stands in its way (flags), and the jobs, best first. None is taken while something
-- stands in the way. What comes before a place (priority, run_at, seq) of the line is not looked at.
WITH RECURSIVE flag AS MATERIALIZED (
    SELECT EXISTS (
               SELECT 1 FROM piecework_session AS s WHERE s.id = :session AND NOT EXISTS (
                   SELECT 1 FROM json_array_elements(s.reaped::json) AS r
                   WHERE :number::bigint BETWEEN (r ->> 0)::bigint AND (r ->> 1)::bigint
               )
           ) AS alive,
           :heed::boolean
           AND EXISTS (SELECT 1 FROM piecework_job WHERE state = 'available' AND NOT due AND run_at <= :now) AS ripe,
           EXISTS (
               SELECT 1 FROM piecework_job WHERE expires_at IS NOT NULL AND state = 'available' AND expires_at <= :now
           ) AS expired,
           EXISTS (SELECT 1 FROM piecework_operation WHERE wake_at IS NOT NULL AND wake_at <= :now) AS late,
           EXISTS (
               SELECT 1 FROM piecework_job WHERE state = 'running' AND worker = :worker AND claim = :claim
           ) AS again
),
-- The queues that have a line: those that were asked for, or all, found by hopping from one to the next in the index.
hop (queue) AS (
    (SELECT queue FROM piecework_job WHERE :queues::json IS NULL AND state = 'available' AND due ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT j.queue FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue > hop.queue ORDER BY j.queue LIMIT 1
    )
    FROM hop WHERE hop.queue IS NOT NULL
),
line AS MATERIALIZED (
    SELECT asked.queue FROM (
        SELECT queue FROM hop WHERE queue IS NOT NULL
        UNION ALL
        SELECT DISTINCT json_array_elements_text(:queues::json) COLLATE "C"
    ) AS asked
    WHERE NOT EXISTS (SELECT 1 FROM piecework_pause AS p WHERE p.queue = asked.queue)
),
-- How many of the best come from each line; of one line it is not asked.
share AS MATERIALIZED (
    SELECT queue, :limit::bigint AS n FROM line WHERE (SELECT count(*) FROM line) = 1
    UNION ALL
    SELECT best.queue, count(*) FROM (
        SELECT j.queue FROM line CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT l.queue, l.priority, l.run_at, l.seq FROM piecework_job AS l
                WHERE l.state = 'available' AND l.due AND l.queue = line.queue
                ORDER BY l.priority, l.run_at, l.seq LIMIT :limit
            ) AS head
        ) AS j
        WHERE (SELECT count(*) FROM line) > 1
        ORDER BY j.priority, j.run_at, j.seq LIMIT :limit
    ) AS best GROUP BY best.queue
),
chosen AS MATERIALIZED (
    SELECT c.seq, c.batch FROM share CROSS JOIN LATERAL (
        SELECT j.seq, j.batch FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue = share.queue
          AND (j.priority, j.run_at, j.seq) > (:priority::integer, :run_at::float8, :seq::bigint)
        ORDER BY j.priority, j.run_at, j.seq LIMIT share.n FOR NO KEY UPDATE SKIP LOCKED
    ) AS c
    WHERE (SELECT alive AND NOT ripe AND NOT expired AND NOT late AND NOT again FROM flag)
),
dead AS MATERIALIZED (
    SELECT EXISTS (
        SELECT 1 FROM chosen JOIN piecework_batch AS b ON b.id = chosen.batch WHERE b.state IN ('failed', 'stopped')
    ) AS met
),
taken AS (
    UPDATE piecework_job AS j
    SET state = 'running', run = j.run + 1, worker = :worker, claim = :claim, started_at = :now
    WHERE j.seq = ANY(ARRAY(SELECT seq FROM chosen WHERE NOT (SELECT met FROM dead)))
    RETURNING id, run, task, queue, priority, attempt, crashes, batch, coalesce(root, batch) AS root, cursor, options,
              started_at, args, run_at, seq
),
counted AS (
    INSERT INTO piecework_tally (queue, state, n)
    SELECT n.queue, s.state, n.n * s.sign
    FROM (SELECT queue, count(*) AS n FROM taken GROUP BY queue) AS n,
         (VALUES ('available', -1), ('running', 1)) AS s (state, sign)
)
SELECT f.alive, f.again, f.ripe, f.expired, f.late, d.met, (SELECT sum(n) FROM share WHERE (SELECT count(*) FROM line) > 1), t.*
FROM flag AS f CROSS JOIN dead AS d LEFT JOIN taken AS t ON true
ORDER BY t.priority, t.run_at, t.seq
