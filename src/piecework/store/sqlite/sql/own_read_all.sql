-- The batches that these jobs wait for, or were split into last.
SELECT j.id, b.id, b."then", b.state, b.on_failure, b.sealed, b.total, b.always
FROM piecework_job AS j JOIN piecework_batch AS b ON b.id = j.below
WHERE j.id IN (SELECT value FROM json_each(:jobs))
