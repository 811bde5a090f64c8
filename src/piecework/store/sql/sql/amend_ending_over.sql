UPDATE piecework_operation SET ending = NULL WHERE job = :job
