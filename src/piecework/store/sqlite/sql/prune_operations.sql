DELETE FROM piecework_operation WHERE job IN (SELECT value FROM json_each(:seqs)) RETURNING digest
