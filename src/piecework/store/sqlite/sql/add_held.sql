-- Operations that need not be stored: they are there by their id, or another holds their key.
SELECT s.value ->> 0, j.id, j.state
FROM json_each(:rows) AS s
JOIN piecework_job AS j ON j.seq = coalesce(
    (SELECT seq FROM piecework_job WHERE id = s.value ->> 0),
    (SELECT job FROM piecework_operation WHERE key = s.value ->> 1 AND key IS NOT NULL)
)
