SELECT queue, state, n FROM piecework_tally WHERE n <> 0
