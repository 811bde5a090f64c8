UPDATE piecework_distributed SET token = NULL WHERE token = :token
