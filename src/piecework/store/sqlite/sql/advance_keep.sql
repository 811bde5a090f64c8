-- Operations that go on in their worker, each as its next run: no index is touched.
UPDATE piecework_job AS j
SET run = j.run + 1, settled = j.run, cursor = s.cursor, started_at = :now, attempt = 0, crashes = 0, below = NULL,
    result = NULL, error = NULL, reason = NULL, progress = NULL, expires_at = NULL
FROM (SELECT value ->> 0 AS id, value ->> 1 AS run, value ->> 2 AS cursor FROM json_each(:rows)) AS s
WHERE j.id = s.id AND j.run = s.run AND j.state = 'running' AND j.stopping = 0
