DELETE FROM piecework_batch AS b
WHERE b.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND b."then" IS NULL AND b.finished_at < :before
  AND NOT EXISTS (SELECT 1 FROM piecework_job AS j WHERE j.batch = b.id)
