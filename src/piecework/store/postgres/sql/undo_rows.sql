-- What was begun and has not ended is to be undone, now: with attempts of its own. It is at no batch any more.
UPDATE piecework_job AS j
SET state = 'available', due = true, run_at = :now, attempt = 0, crashes = 0, finished_at = NULL, expires_at = NULL,
    stopping = 0, below = NULL, error = NULL,
    reason = (SELECT o.ending::json ->> 'reason' FROM piecework_operation AS o WHERE o.job = j.seq)
WHERE j.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
