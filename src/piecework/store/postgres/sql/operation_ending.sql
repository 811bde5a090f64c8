-- The first one counts: who asked for it to be undone is not told that it failed meanwhile.
UPDATE piecework_operation AS o SET ending = coalesce(o.ending, s.ending)
FROM json_to_recordset(:rows::json) AS s (id text, ending text) JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq
