-- Which of these are there already, by id, by unique key, by piece key or by place?
SELECT s.value ->> 0, j.id, j.task, j.args, j.batch, j.offer, coalesce(j.offered_as, j.id)
FROM json_each(:rows) AS s
JOIN piecework_job AS j ON j.id = coalesce(
    (SELECT id FROM piecework_job WHERE id = s.value ->> 0),
    (SELECT id FROM piecework_job WHERE key = s.value ->> 4 AND key IS NOT NULL
        AND (state = 'available' OR state = 'running' OR state = 'waiting' OR state = 'parked')),
    (SELECT id FROM piecework_job WHERE batch = :batch AND piece = s.value ->> 3 AND piece IS NOT NULL),
    (SELECT id FROM piecework_job WHERE batch = :batch AND batch IS NOT NULL AND ordinal = s.value ->> 2
        AND s.value ->> 3 IS NULL)
)
