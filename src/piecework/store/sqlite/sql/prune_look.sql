-- Which of these jobs are past their keep? Once to find them, and once more in the transaction that deletes them.
SELECT count(*), max(seq), coalesce(sum(created_at >= :before), 0),
       json_group_array(json_array(seq, id, queue, state, run > 1 OR state <> 'completed' OR cursor IS NOT NULL, below IS NOT NULL OR cursor IS NOT NULL,
                                   cursor IS NOT NULL, tags IS NOT NULL))
           FILTER (WHERE gone)
FROM (
    SELECT seq, id, queue, state, run, below, cursor, tags, created_at,
           (state = 'completed' OR state = 'cancelled') AND finished_at < :before AND (
               batch IS NULL
               -- A piece stays while its batch is open, and as long as the continuation and the root of its tree do.
               OR (
                   NOT EXISTS (SELECT 1 FROM piecework_batch AS b WHERE b.id = j.batch AND b.state = 'open')
                   AND NOT EXISTS (
                       SELECT 1 FROM piecework_job AS r
                       WHERE r.id IN (
                               coalesce(j.root, j.batch),
                               (SELECT b."then" FROM piecework_batch AS b WHERE b.id = j.batch)
                           )
                         AND NOT (r.state IN ('completed', 'cancelled') AND r.finished_at < :before)
                   )
               )
           ) AS gone
    FROM piecework_job AS j WHERE {which}
)
