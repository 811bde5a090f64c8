SELECT queue FROM piecework_pause ORDER BY queue
