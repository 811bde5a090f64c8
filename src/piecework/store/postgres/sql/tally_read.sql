SELECT queue, state, sum(n)::bigint FROM piecework_tally GROUP BY queue, state HAVING sum(n) <> 0
