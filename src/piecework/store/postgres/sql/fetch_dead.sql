-- The pieces of dead batches among the next of each line.
WITH RECURSIVE hop (queue) AS (
    (SELECT queue FROM piecework_job WHERE state = 'available' AND due ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT j.queue FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue > hop.queue ORDER BY j.queue LIMIT 1
    )
    FROM hop WHERE hop.queue IS NOT NULL
),
next AS (
    SELECT c.* FROM hop CROSS JOIN LATERAL (
        SELECT j.id, j.queue, j.state, j.batch, j.priority, j.run_at, j.seq FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue = hop.queue ORDER BY j.priority, j.run_at, j.seq LIMIT :limit
    ) AS c
    WHERE (:queues::json IS NULL OR hop.queue IN (SELECT json_array_elements_text(:queues::json)))
      AND NOT EXISTS (SELECT 1 FROM piecework_pause AS p WHERE p.queue = hop.queue)
    ORDER BY c.priority, c.run_at, c.seq LIMIT :limit
)
SELECT n.id, n.queue, n.state, n.batch FROM next AS n
JOIN piecework_batch AS b ON b.id = n.batch AND b.state IN ('failed', 'stopped')
ORDER BY n.priority, n.run_at, n.seq
