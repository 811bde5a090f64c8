-- Jobs that are known by an identity or by tags, whatever else they have.
INSERT INTO piecework_job (
    id, args, ordinal, piece, key, identity, tags, task, queue, priority, state, due, run_at, created_at, options, batch,
    root, offer, expires_at
)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
       :task, :queue, :priority, :state, :due, :run_at, :now, :options, :batch, :root, :offer, :expires_at
FROM json_each(:rows)
WHERE true
ON CONFLICT DO NOTHING
