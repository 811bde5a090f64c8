-- Those of these operations that wait for a signal that was kept, and the oldest such.
SELECT j.id, j.seq, j.queue, (
    SELECT k.seq FROM piecework_signal AS k INDEXED BY piecework_signal_kept
    WHERE k.job = j.id AND k.name = o.awaits AND k.taken_at IS NULL ORDER BY k.seq LIMIT 1
) AS oldest
FROM json_each(:ids) AS s
JOIN piecework_job AS j ON j.id = s.value AND j.state = 'waiting'
JOIN piecework_operation AS o ON o.job = j.seq AND o.awaits IS NOT NULL
WHERE oldest IS NOT NULL
