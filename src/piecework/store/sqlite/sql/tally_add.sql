INSERT INTO piecework_tally (queue, state, n)
SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:rows) WHERE true
ON CONFLICT (queue, state) DO UPDATE SET n = n + excluded.n
