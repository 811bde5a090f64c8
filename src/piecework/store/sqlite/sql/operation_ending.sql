-- The first one counts: who asked for it to be undone is not told that it failed meanwhile.
UPDATE piecework_operation AS o SET ending = coalesce(o.ending, s.ending)
FROM (
    SELECT j.seq, value ->> 1 AS ending FROM json_each(:rows) JOIN piecework_job AS j ON j.id = value ->> 0
) AS s
WHERE o.job = s.seq
