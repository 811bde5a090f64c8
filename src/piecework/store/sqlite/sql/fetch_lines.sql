-- The queues that have a line, found by hopping from one to the next in the index.
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM piecework_job WHERE state = 'available' AND due = 1
    UNION ALL
    SELECT (SELECT min(queue) FROM piecework_job WHERE state = 'available' AND due = 1 AND queue > line.queue)
    FROM line WHERE line.queue IS NOT NULL
)
SELECT queue FROM line
WHERE queue IS NOT NULL AND queue NOT IN (SELECT queue FROM piecework_pause)
