-- A job that comes back for ever keeps the lines of its first runs and of its last ones.
DELETE FROM piecework_attempt AS a
USING json_to_recordset(:rows::json) AS s (id text, run integer) JOIN piecework_job AS j ON j.id = s.id
WHERE a.job = s.id AND a.run > :first AND a.run <= s.run - :last
  AND NOT EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = j.seq)
