-- Each end in its own order, a page at most, and then the first of those: a million failures are not sorted for one page.
SELECT json_group_array(json_array(ordinal, piece, id, task, state, result, json(error))) FROM (
    SELECT * FROM piecework_job WHERE seq IN (
        SELECT * FROM (
            SELECT seq FROM piecework_job INDEXED BY piecework_job_ended
            WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'failed'
              AND batch = :batch AND ordinal > :after ORDER BY ordinal LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT seq FROM piecework_job INDEXED BY piecework_job_ended
            WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'cancelled'
              AND batch = :batch AND ordinal > :after ORDER BY ordinal LIMIT :limit
        )
        UNION ALL
        SELECT * FROM (
            SELECT seq FROM piecework_job INDEXED BY piecework_job_ended
            WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked') AND state = 'parked'
              AND batch = :batch AND ordinal > :after ORDER BY ordinal LIMIT :limit
        )
    )
    ORDER BY ordinal LIMIT :limit
)
