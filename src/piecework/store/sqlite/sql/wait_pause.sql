-- They wait no longer, but will again, for as long, should they be brought back.
UPDATE piecework_operation SET wake_at = NULL
WHERE wake_at IS NOT NULL
  AND job IN (SELECT j.seq FROM json_each(:ids) AS s JOIN piecework_job AS j ON j.id = s.value)
