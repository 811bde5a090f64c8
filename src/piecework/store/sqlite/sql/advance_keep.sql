-- Operations that go on in their worker, each as its next run: no index is touched.
UPDATE piecework_job AS j
SET run = j.run + 1, settled = j.run, cursor = s.cursor, started_at = :now, attempt = 0, crashes = 0, below = NULL,
    result = NULL, error = NULL, reason = NULL, progress = NULL, expires_at = NULL
FROM (
    WITH said AS MATERIALIZED (
        SELECT value -> 0 AS ids, value ->> 1 AS run, value ->> 2 AS cursor FROM json_each(:rows)
    ),
    s AS MATERIALIZED (SELECT t.value AS id, said.run, said.cursor FROM said CROSS JOIN json_each(said.ids) AS t)
    SELECT * FROM s
) AS s
WHERE j.id = s.id AND j.run = s.run AND j.state = 'running' AND j.stopping = 0
