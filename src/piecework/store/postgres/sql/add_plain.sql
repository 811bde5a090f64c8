-- Jobs that differ in nothing but id and arguments, in one step: what varies travels as two flat lists, read once.
INSERT INTO piecework_job (id, args, task, queue, priority, state, due, run_at, created_at, options)
SELECT s.id, s.args, :task, :queue, :priority, :state,
       :state <> 'available' OR t.run_at <= t.now, t.run_at, t.now, :options
FROM ROWS FROM (json_array_elements_text(:ids::json), json_array_elements_text(:args::json)) AS s (id, args),
     LATERAL (SELECT :now AS now, coalesce(:run_at::float8, :now + :delay::float8) AS run_at) AS t
ON CONFLICT DO NOTHING
