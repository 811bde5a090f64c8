UPDATE piecework_batch SET state = 'stopped', finished_at = :now
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:batches::json))) AND id <> :top AND state = 'open'
