DELETE FROM piecework_session WHERE id = :id AND (:beat IS NULL OR beat = :beat)
