-- The same, from the newest to the oldest.
SELECT * FROM (
    (
        SELECT job, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, NULL AS changes,
               NULL AS route
        FROM piecework_attempt WHERE job = :id AND run > :after AND run < :before ORDER BY run DESC LIMIT :limit
    )
    UNION ALL
    (
        SELECT :id, run, attempt, outcome, started_at, finished_at, worker, error, reason, cursor, changes, route
        FROM piecework_step
        WHERE operation = (SELECT seq FROM piecework_job WHERE id = :id) AND run > :after AND run < :before
        ORDER BY run DESC LIMIT :limit
    )
) AS line
ORDER BY run DESC, finished_at DESC LIMIT :limit
