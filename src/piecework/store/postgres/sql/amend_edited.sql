-- Those of these runs in which somebody edited the operation's globals by hand.
SELECT s.id FROM json_to_recordset(:runs::json) AS s (id text, run integer)
WHERE EXISTS (
    SELECT 1 FROM piecework_amendment AS a WHERE a.job = s.id AND a.run = s.run AND a.changes IS NOT NULL
)
