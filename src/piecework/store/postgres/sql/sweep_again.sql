-- Those of them that nobody has fetched, cancelled or brought back since.
SELECT j.id, j.queue, j.state, j.batch FROM piecework_job AS j
JOIN piecework_batch AS b ON b.id = j.batch AND b.state IN ('failed', 'stopped')
WHERE j.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND j.state IN ('available', 'waiting')
