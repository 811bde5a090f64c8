-- Jobs that differ in nothing but id and arguments, in one step: what varies travels as one JSON text.
INSERT INTO piecework_job (id, args, task, queue, priority, state, due, run_at, created_at, options)
SELECT value ->> 0, value ->> 1, :task, :queue, :priority, :state, :due, :run_at, :now, :options
FROM json_each(:rows)
WHERE true
ON CONFLICT DO NOTHING
