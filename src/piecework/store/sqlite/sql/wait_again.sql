UPDATE piecework_operation SET awaits = wait ->> 0, wake_at = :now + (wait ->> 1)
WHERE job IN (SELECT j.seq FROM json_each(:ids) AS s JOIN piecework_job AS j ON j.id = s.value)
