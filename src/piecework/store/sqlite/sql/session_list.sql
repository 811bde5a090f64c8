SELECT id, beat, started_at, seen_at, name, host, pid FROM piecework_session ORDER BY started_at, id
