SELECT seq, id, queue, state, created_at,
       state IN ('completed', 'cancelled') AND finished_at < :before AND (
           batch IS NULL OR NOT EXISTS (
               SELECT 1 FROM piecework_job AS r
               WHERE r.id = coalesce(j.root, j.batch) AND NOT (r.state IN ('completed', 'cancelled') AND r.finished_at < :before)
           )
       )
FROM piecework_job AS j WHERE seq > :seq ORDER BY seq LIMIT :limit
