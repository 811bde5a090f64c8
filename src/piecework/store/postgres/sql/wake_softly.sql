-- In a transaction of somebody else's, which may last: no line is locked.
SELECT pg_notify(:channel, '') WHERE EXISTS (SELECT 1 FROM piecework_sleeper)
