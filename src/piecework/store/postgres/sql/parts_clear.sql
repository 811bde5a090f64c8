DELETE FROM piecework_part WHERE job = :job AND number = ANY(ARRAY(
    SELECT number FROM piecework_part WHERE job = :job ORDER BY number LIMIT :limit
))
