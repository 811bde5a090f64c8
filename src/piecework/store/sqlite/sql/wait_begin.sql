UPDATE piecework_operation AS o SET wait = s.wait, awaits = s.name, wake_at = :now + s.timeout, received = NULL
FROM (
    SELECT j.seq, value ->> 1 AS wait, value ->> 2 AS name, value ->> 3 AS timeout
    FROM json_each(:rows) JOIN piecework_job AS j ON j.id = value ->> 0
) AS s
WHERE o.job = s.seq
