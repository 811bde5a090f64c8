INSERT INTO piecework_signal (job, id, name, payload, by, at) VALUES (:job, :id, :name, :payload, :by, :now)
ON CONFLICT DO NOTHING
