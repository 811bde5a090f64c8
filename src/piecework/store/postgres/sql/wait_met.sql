-- Those of these operations that wait for a signal that was kept, and the oldest such.
SELECT j.id, j.seq, j.queue, k.seq
FROM json_array_elements_text(:ids::json) AS s (id)
JOIN piecework_job AS j ON j.id = s.id AND j.state = 'waiting'
JOIN piecework_operation AS o ON o.job = j.seq AND o.awaits IS NOT NULL
CROSS JOIN LATERAL (
    SELECT k.seq FROM piecework_signal AS k
    WHERE k.job = j.id AND k.name = o.awaits AND k.taken_at IS NULL ORDER BY k.seq LIMIT 1
) AS k
