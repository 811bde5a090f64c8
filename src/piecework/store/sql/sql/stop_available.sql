-- From the end: what has not started is there. A bounded look, because all that it passes may have ended.
SELECT id, queue, state, batch FROM piecework_job WHERE batch = :batch ORDER BY ordinal DESC LIMIT :limit
