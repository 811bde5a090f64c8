SELECT count(*) FROM piecework_operation AS o WHERE NOT EXISTS (SELECT 1 FROM piecework_job AS j WHERE j.seq = o.job)
