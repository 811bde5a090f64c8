-- The first of each end, and of those the one that tells most.
SELECT coalesce(piece, ordinal), state, error, reason FROM (
    SELECT * FROM (
        SELECT piece, ordinal, state, error, reason FROM piecework_job INDEXED BY piecework_job_ended
        WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'failed'
          AND batch = :batch AND finished_at IS NOT NULL ORDER BY ordinal LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT piece, ordinal, state, error, reason FROM piecework_job INDEXED BY piecework_job_ended
        WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'cancelled'
          AND batch = :batch AND finished_at IS NOT NULL ORDER BY ordinal LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT piece, ordinal, state, error, reason FROM piecework_job INDEXED BY piecework_job_ended
        WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'parked'
          AND batch = :batch AND finished_at IS NOT NULL ORDER BY ordinal LIMIT 1
    )
)
ORDER BY state = 'cancelled', ordinal LIMIT 1
