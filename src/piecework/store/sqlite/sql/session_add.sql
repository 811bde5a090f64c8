INSERT INTO piecework_session (id, beat, started_at, seen_at, name, host, pid)
VALUES (:id, :beat, :started_at, :seen_at, :name, :host, :pid)
ON CONFLICT DO NOTHING
