-- What was begun and has not ended is to be undone, now: with attempts of its own. It is at no batch any more.
UPDATE piecework_job
SET state = 'available', due = 1, run_at = :now, attempt = 0, crashes = 0, finished_at = NULL, expires_at = NULL,
    stopping = 0, below = NULL, error = NULL,
    reason = (SELECT o.ending ->> '$.reason' FROM piecework_operation AS o WHERE o.job = seq)
WHERE id IN (SELECT value FROM json_each(:ids))
