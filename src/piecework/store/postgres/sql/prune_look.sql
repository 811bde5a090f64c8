-- Which of these jobs are past their keep? Once to find them, and once more in the transaction that deletes them.
SELECT count(*), max(seq), count(*) FILTER (WHERE created_at >= :before),
       coalesce(json_agg(json_build_array(seq, id, queue, state, told, split, placed, tagged)) FILTER (WHERE gone), '[]')::text
FROM (
    SELECT seq, id, queue, state, created_at, run > 1 OR state <> 'completed' OR cursor IS NOT NULL AS told,
           below IS NOT NULL OR cursor IS NOT NULL AS split, cursor IS NOT NULL AS placed, tags IS NOT NULL AS tagged,
           state IN ('completed', 'cancelled') AND finished_at < :before AND (
               batch IS NULL
               -- A piece stays while its batch is open, and as long as the continuation and the root of its tree do.
               OR (
                   NOT EXISTS (SELECT 1 FROM piecework_batch AS b WHERE b.id = j.batch AND b.state = 'open')
                   AND NOT EXISTS (
                       SELECT 1 FROM piecework_job AS r
                       WHERE r.id = ANY(ARRAY[
                               coalesce(j.root, j.batch),
                               (SELECT b."then" FROM piecework_batch AS b WHERE b.id = j.batch)
                           ])
                         AND NOT (r.state IN ('completed', 'cancelled') AND r.finished_at < :before)
                   )
               )
           ) AS gone
    FROM piecework_job AS j WHERE {which}
) AS seen
