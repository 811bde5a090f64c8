-- Shared with others of this run, and kept from ending meanwhile.
SELECT 1 FROM piecework_job WHERE id = :id AND run = :run AND state = 'running' FOR SHARE
