INSERT INTO piecework_session (id, beat, started_at, seen_at, name, host, pid, polled_at)
VALUES (:id, :beat, :started_at, :seen_at, :name, :host, :pid, :polled_at)
ON CONFLICT DO NOTHING
