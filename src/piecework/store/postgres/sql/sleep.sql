-- A line that is lost costs nobody more than a poll, so nobody waits for the disk.
INSERT INTO piecework_sleeper (id)
SELECT :id WHERE set_config('synchronous_commit', 'off', true) = 'off'
ON CONFLICT DO NOTHING
