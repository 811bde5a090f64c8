UPDATE piecework_job SET stopped_by = :by, stopped_at = :now
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
