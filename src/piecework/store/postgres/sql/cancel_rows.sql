UPDATE piecework_job SET state = 'cancelled', finished_at = :now, reason = :reason, stopping = 0,
    stopped_by = coalesce(:by, stopped_by), stopped_at = CASE WHEN :by::text IS NULL THEN stopped_at ELSE :now END
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
