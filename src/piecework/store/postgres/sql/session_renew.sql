UPDATE piecework_session
SET beat = beat + 1, seen_at = :now, polled_at = coalesce(:now - :polled::float8, polled_at)
WHERE id = :id
