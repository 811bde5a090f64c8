DELETE FROM piecework_distributed WHERE seq = :job
