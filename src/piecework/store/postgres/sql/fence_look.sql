-- Whether a run still owns its job, as far as can be told without keeping anybody from changing that.
SELECT 1 FROM piecework_job WHERE id = :id AND run = :run AND state = 'running'
