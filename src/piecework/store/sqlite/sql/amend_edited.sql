-- Those of these runs in which somebody edited the operation's globals by hand.
SELECT s.value ->> 0
FROM json_each(:runs) AS s
WHERE EXISTS (
    SELECT 1 FROM piecework_amendment AS a
    WHERE a.job = s.value ->> 0 AND a.run = s.value ->> 1 AND a.changes IS NOT NULL
)
