DELETE FROM piecework_step WHERE operation IN (SELECT value FROM json_each(:seqs))
