UPDATE piecework_session
SET beat = beat + 1, seen_at = :now, polled_at = coalesce(:now - :polled, polled_at)
WHERE id = :id
