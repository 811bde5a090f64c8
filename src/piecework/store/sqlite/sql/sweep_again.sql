-- Those of them that nobody has fetched, cancelled or brought back since.
SELECT j.id, j.queue, j.state, j.batch FROM piecework_job AS j
JOIN piecework_batch AS b ON b.id = j.batch AND b.state IN ('failed', 'stopped')
WHERE j.id IN (SELECT value FROM json_each(:ids)) AND (j.state = 'available' OR j.state = 'waiting')
