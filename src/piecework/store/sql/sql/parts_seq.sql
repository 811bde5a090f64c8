SELECT seq FROM piecework_distributed WHERE token = :token
