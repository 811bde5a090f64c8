UPDATE piecework_batch SET state = 'done', finished_at = :now
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND state = 'open'
