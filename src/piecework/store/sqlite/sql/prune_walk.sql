SELECT seq, id, queue, state, created_at,
       state IN ('completed', 'cancelled') AND finished_at < :before AND (
           batch IS NULL
           -- A piece stays while its batch is open, and as long as the continuation and the root of its tree do.
           OR (
               NOT EXISTS (SELECT 1 FROM piecework_batch AS b WHERE b.id = j.batch AND b.state = 'open')
               AND NOT EXISTS (
                   SELECT 1 FROM piecework_job AS r
                   WHERE r.id IN (
                           coalesce(j.root, j.batch), (SELECT b."then" FROM piecework_batch AS b WHERE b.id = j.batch)
                       )
                     AND NOT (r.state IN ('completed', 'cancelled') AND r.finished_at < :before)
               )
           )
       )
FROM piecework_job AS j WHERE seq > :seq ORDER BY seq LIMIT :limit
