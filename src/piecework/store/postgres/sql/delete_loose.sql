-- Batches without a continuation, once their last piece is gone.
DELETE FROM piecework_batch
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND "then" IS NULL AND state <> 'open' AND total = 0
