-- The one moment of fan-in: the continuations were stored waiting from the start, and now may run. Their queues, before
-- and now. An operation that has gone past the step whose batch this was waits for something else.
WITH waiting AS (
    SELECT j.seq, j.queue, coalesce(b.then_queue, j.queue) AS then_queue, b.then_priority
    FROM piecework_batch AS b JOIN piecework_job AS j ON j.id = b."then"
    WHERE b.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
      AND j.state = 'waiting' AND (NOT b.always OR j.below = b.id)
),
released AS (
    UPDATE piecework_job AS j
    SET state = 'available', due = true, run_at = :now, attempt = 0, crashes = 0, queue = w.then_queue,
        priority = coalesce(w.then_priority, j.priority)
    FROM waiting AS w WHERE j.seq = w.seq AND j.state = 'waiting'
    RETURNING w.queue AS queue_before, j.queue
)
SELECT queue_before, queue FROM released
