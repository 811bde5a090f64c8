UPDATE piecework_session SET reaped = :reaped WHERE id = :id
