-- A job that comes back for ever keeps the lines of its first runs and of its last ones.
DELETE FROM piecework_attempt WHERE (job, run, outcome) IN (
    SELECT a.job, a.run, a.outcome FROM json_each(:rows) AS s
    JOIN piecework_job AS j ON j.id = s.value ->> 0 AND j.seq NOT IN (SELECT job FROM piecework_operation)
    JOIN piecework_attempt AS a ON a.job = j.id AND a.run > :first AND a.run <= (s.value ->> 1) - :last
)
