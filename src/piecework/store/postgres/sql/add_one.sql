-- One plain job, as a transaction of one statement: the job, the counter, and the end of sleep for who sleeps.
WITH added AS (
    INSERT INTO piecework_job (id, args, task, queue, priority, state, due, run_at, created_at, options)
    VALUES (
        :id, :args, :task, :queue, :priority, 'available', coalesce(:run_at::float8, :now + :delay::float8) <= :now,
        coalesce(:run_at::float8, :now + :delay::float8), :now, :options
    )
    ON CONFLICT DO NOTHING
    RETURNING queue
),
counted AS (
    INSERT INTO piecework_tally (queue, state, n) SELECT queue, 'available', 1 FROM added
),
awake AS (
    DELETE FROM piecework_sleeper
    WHERE id = ANY(ARRAY(SELECT id FROM piecework_sleeper FOR UPDATE SKIP LOCKED))
    RETURNING id
)
SELECT pg_notify(:channel, '') FROM (SELECT count(*) AS n FROM awake) AS a WHERE a.n > 0
