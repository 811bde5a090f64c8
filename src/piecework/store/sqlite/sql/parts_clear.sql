DELETE FROM piecework_part WHERE job = :job AND number IN (
    SELECT number FROM piecework_part WHERE job = :job ORDER BY number LIMIT :limit
)
