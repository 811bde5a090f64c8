-- What they waited for before is over; of most, there was nothing.
UPDATE piecework_operation INDEXED BY piecework_operation_wait
SET wait = NULL, awaits = NULL, wake_at = NULL, received = NULL
WHERE wait IS NOT NULL AND job IN (SELECT j.seq FROM json_each(:ids) AS s JOIN piecework_job AS j ON j.id = s.value)
