DELETE FROM piecework_term WHERE operation IN (SELECT value FROM json_each(:seqs))
