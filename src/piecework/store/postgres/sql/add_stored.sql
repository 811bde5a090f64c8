-- Which of these are there already, by id, by unique key, by piece key or by place?
SELECT s.id, j.id, j.task, j.args, j.batch, j."offer", coalesce(j.offered_as, j.id)
FROM ROWS FROM (
         json_array_elements_text(:ids::json), json_array_elements_text(:ordinals::json),
         json_array_elements_text(:pieces::json), json_array_elements_text(:keys::json)
     ) AS s (id, ordinal, piece, key)
CROSS JOIN LATERAL (SELECT coalesce(
    (SELECT k.id FROM piecework_job AS k WHERE k.id = s.id),
    (SELECT k.id FROM piecework_job AS k WHERE k.key = s.key AND k.key IS NOT NULL
        AND k.state IN ('available', 'running', 'waiting', 'parked')),
    (SELECT k.id FROM piecework_job AS k WHERE k.batch = :batch AND k.piece = s.piece AND k.piece IS NOT NULL),
    (SELECT k.id FROM piecework_job AS k WHERE k.batch = :batch AND k.batch IS NOT NULL
        AND k.ordinal = s.ordinal::integer AND s.piece IS NULL)
) AS id) AS found
JOIN piecework_job AS j ON j.id = found.id
