UPDATE piecework_job AS j SET progress = s.progress
FROM ROWS FROM (json_array_elements_text(:ids::json), json_array_elements_text(:values::json)) AS s (id, progress)
WHERE j.id = s.id AND j.state = 'running' AND j.worker = :worker
