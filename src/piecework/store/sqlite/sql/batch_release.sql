-- The one moment of fan-in: the continuations were stored waiting from the start, and now may run.
UPDATE piecework_job AS j
SET state = 'available', due = 1, run_at = :now, attempt = 0, crashes = 0,
    queue = coalesce(b.then_queue, j.queue), priority = coalesce(b.then_priority, j.priority)
FROM piecework_batch AS b
WHERE b.id IN (SELECT value FROM json_each(:ids)) AND j.id = b."then"
  AND j.state = 'waiting' AND (NOT b.always OR j.below = b.id)
