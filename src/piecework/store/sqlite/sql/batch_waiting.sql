-- What waits for these batches: its queue, now and once it is released. An operation that has gone past the step whose
-- batch this was waits for something else.
SELECT j.queue, coalesce(b.then_queue, j.queue)
FROM piecework_batch AS b JOIN piecework_job AS j ON j.id = b."then"
WHERE b.id IN (SELECT value FROM json_each(:ids)) AND j.state = 'waiting' AND (NOT b.always OR j.below = b.id)
