SELECT 1 FROM piecework_session WHERE id = :session
