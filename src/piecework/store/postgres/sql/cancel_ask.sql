UPDATE piecework_job SET stopping = :how, reason = :reason, stopped_by = coalesce(:by, stopped_by),
    stopped_at = CASE WHEN :by::text IS NULL THEN stopped_at ELSE :now END
WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND state = 'running'
