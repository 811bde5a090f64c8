UPDATE piecework_operation SET awaits = NULL, wake_at = NULL WHERE job IN (SELECT value FROM json_each(:seqs))
