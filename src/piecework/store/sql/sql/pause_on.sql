INSERT INTO piecework_pause (queue) VALUES (:queue) ON CONFLICT DO NOTHING
