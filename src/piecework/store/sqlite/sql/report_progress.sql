UPDATE piecework_job AS j SET progress = s.progress
FROM (SELECT value ->> 0 AS id, value ->> 1 AS progress FROM json_each(:rows)) AS s
WHERE j.id = s.id AND j.state = 'running' AND j.worker = :worker
