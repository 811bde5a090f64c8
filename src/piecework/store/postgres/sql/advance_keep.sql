-- Operations that go on in their worker, each as its next run: no index is touched.
UPDATE piecework_job AS j
SET run = j.run + 1, settled = j.run, cursor = s.cursor, started_at = :now, attempt = 0, crashes = 0, below = NULL,
    result = NULL, error = NULL, reason = NULL, progress = NULL, expires_at = NULL
FROM json_to_recordset(:rows::json) AS s (id text, run integer, cursor text)
WHERE j.id = s.id AND CASE j.state WHEN 'running' THEN j.run = s.run AND j.stopping = 0 ELSE false END
