-- The one moment of fan-in: the continuations were stored waiting from the start, and now may run. Their queues, before
-- and now.
WITH done AS (
    UPDATE piecework_batch SET state = 'done', finished_at = :now
    WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND state = 'open'
    RETURNING "then", then_queue, then_priority
),
was AS (
    SELECT j.id, j.queue FROM done JOIN piecework_job AS j ON j.id = done."then"
),
released AS (
    UPDATE piecework_job AS j
    SET state = 'available', due = true, run_at = :now, attempt = 0, crashes = 0,
        queue = coalesce(done.then_queue, j.queue), priority = coalesce(done.then_priority, j.priority)
    FROM done WHERE j.id = done."then" AND j.state = 'waiting'
    RETURNING j.id, j.queue
)
SELECT was.queue, released.queue FROM released JOIN was ON was.id = released.id
