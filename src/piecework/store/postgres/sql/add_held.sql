-- Operations that need not be stored: they are there by their id, or another holds their key.
SELECT s.id, j.id, j.state
FROM ROWS FROM (json_array_elements_text(:ids::json), json_array_elements_text(:keys::json)) AS s (id, key)
CROSS JOIN LATERAL (SELECT coalesce(
    (SELECT k.seq FROM piecework_job AS k WHERE k.id = s.id),
    (SELECT o.job FROM piecework_operation AS o WHERE o.key = s.key AND o.key IS NOT NULL)
) AS seq) AS found
JOIN piecework_job AS j ON j.seq = found.seq
