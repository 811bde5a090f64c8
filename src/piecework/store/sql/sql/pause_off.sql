DELETE FROM piecework_pause WHERE queue = :queue
