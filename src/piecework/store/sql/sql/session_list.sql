SELECT id, beat, started_at, seen_at, name, host, pid, polled_at FROM piecework_session ORDER BY started_at, id
