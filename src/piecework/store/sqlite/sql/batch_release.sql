-- The one moment of fan-in: the continuation was stored waiting from the start, and now may run. An operation that has
-- gone past the step whose batch this was waits for something else.
UPDATE piecework_job
SET state = 'available', due = 1, run_at = :now, attempt = 0, crashes = 0,
    queue = coalesce(:queue, queue), priority = coalesce(:priority, priority)
WHERE id = :id AND state = 'waiting' AND (NOT :always OR below = :batch)
