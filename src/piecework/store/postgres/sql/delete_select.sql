-- What may go: ended or parked, with nothing unfinished below; a piece only when nothing above would miss it.
SELECT j.id FROM piecework_job AS j
WHERE ({where})
  AND j.state IN ('completed', 'failed', 'cancelled', 'parked')
  AND (j.batch IS NULL OR (
      NOT EXISTS (SELECT 1 FROM piecework_batch AS b WHERE b.id = j.batch AND b.state = 'open')
      AND NOT EXISTS (SELECT 1 FROM piecework_job AS r WHERE r.id = coalesce(j.root, j.batch) AND r.state <> 'completed')
  ))
  AND NOT EXISTS (
      WITH RECURSIVE below (batch) AS (
          SELECT b.id FROM piecework_batch AS b WHERE b."then" = j.id
          UNION
          SELECT b.id FROM below JOIN piecework_job AS p ON p.batch = below.batch JOIN piecework_batch AS b ON b."then" = p.id
      )
      SELECT 1 FROM below WHERE EXISTS (
          SELECT 1 FROM piecework_batch AS b WHERE b.id = below.batch AND b.state = 'open'
      ) OR EXISTS (
          SELECT 1 FROM piecework_job AS p WHERE p.batch = below.batch AND p.state IN ('available', 'running', 'waiting')
      )
  )
ORDER BY j.seq LIMIT :limit
