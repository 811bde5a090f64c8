SELECT reaped FROM piecework_session WHERE id = :id
