UPDATE piecework_job AS j SET progress = s.progress
FROM json_to_recordset(:rows::json) AS s (id text, progress text)
WHERE j.id = s.id AND j.state = 'running' AND j.worker = :worker
