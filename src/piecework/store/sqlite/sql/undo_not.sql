-- They came to their end before they could be undone.
UPDATE piecework_operation SET ending = NULL
WHERE job IN (SELECT j.seq FROM json_each(:ids) AS s JOIN piecework_job AS j ON j.id = s.value)
