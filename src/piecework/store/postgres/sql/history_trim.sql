-- A job that comes back for ever keeps the lines of its first runs and of its last ones.
DELETE FROM piecework_attempt AS a
USING json_to_recordset(:rows::json) AS s (id text, upto integer)
WHERE a.job = s.id AND a.run > :first AND a.run <= s.upto
