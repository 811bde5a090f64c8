-- The queues that have a line, found by hopping from one to the next in the index.
WITH RECURSIVE hop (queue) AS (
    (SELECT queue FROM piecework_job WHERE state = 'available' AND due ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT j.queue FROM piecework_job AS j
        WHERE j.state = 'available' AND j.due AND j.queue > hop.queue ORDER BY j.queue LIMIT 1
    )
    FROM hop WHERE hop.queue IS NOT NULL
)
SELECT queue FROM hop WHERE queue IS NOT NULL
