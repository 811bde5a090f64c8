-- Jobs that are known by an identity or by tags, whatever else they have.
INSERT INTO piecework_job (
    id, args, ordinal, piece, key, identity, tags, task, queue, priority, state, due, run_at, created_at, options, batch,
    root, "offer", expires_at
)
SELECT s.id, s.args, s.ordinal::integer, s.piece, s.key, s.identity, s.tags, :task, :queue, :priority, :state,
       :state <> 'available' OR t.run_at <= t.now, t.run_at, t.now, :options, :batch, :root, :offer,
       coalesce(:expires_at::float8, t.run_at + :expires::float8)
FROM ROWS FROM (
         json_array_elements_text(:ids::json), json_array_elements_text(:args::json),
         json_array_elements_text(:ordinals::json), json_array_elements_text(:pieces::json),
         json_array_elements_text(:keys::json), json_array_elements_text(:identities::json),
         json_array_elements_text(:tags::json)
     ) AS s (id, args, ordinal, piece, key, identity, tags),
     LATERAL (SELECT :now AS now, coalesce(:run_at::float8, :now + :delay::float8) AS run_at) AS t
ON CONFLICT DO NOTHING
