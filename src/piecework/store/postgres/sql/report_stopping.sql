-- A piece that was fetched while its batch came to a bad end was not asked, and is told all the same.
SELECT j.id FROM piecework_job AS j
WHERE j.state = 'running' AND j.worker = :worker AND (
    j.stopping <> 0 OR EXISTS (SELECT 1 FROM piecework_batch AS b WHERE b.id = j.batch AND b.state IN ('failed', 'stopped'))
)
