-- An operation keeps of each visit the first lines and the last ones, beside those with which it moved on.
DELETE FROM piecework_attempt AS a
USING json_to_recordset(:rows::json) AS s (id text, run integer)
JOIN piecework_job AS j ON j.id = s.id
JOIN piecework_operation AS o ON o.job = j.seq
JOIN piecework_attempt AS line ON line.job = j.id AND line.run = s.run
WHERE a.job = line.job AND a.cursor = line.cursor
  AND a.run > (
      SELECT b.run FROM piecework_attempt AS b WHERE b.job = line.job AND b.cursor = line.cursor
      ORDER BY b.run LIMIT 1 OFFSET :first - 1
  )
  AND a.run < (
      SELECT b.run FROM piecework_attempt AS b WHERE b.job = line.job AND b.cursor = line.cursor
      ORDER BY b.run DESC LIMIT 1 OFFSET :last - 1
  )
