UPDATE piecework_operation SET ending = NULL WHERE job IN (SELECT value FROM json_each(:seqs))
