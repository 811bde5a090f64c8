UPDATE piecework_session SET beat = beat + 1, seen_at = :now WHERE id = :id
