-- A splitter between two runs is available; it fails with its batch all the same.
UPDATE piecework_job SET state = 'failed', finished_at = :now, error = :error
WHERE id = :id AND (state IN ('waiting', 'available') OR (state = 'parked' AND finished_at IS NULL))
