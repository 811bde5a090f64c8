DELETE FROM piecework_session WHERE id = :id AND (:beat::integer IS NULL OR beat = :beat)
