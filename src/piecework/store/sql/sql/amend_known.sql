SELECT 1 FROM piecework_amendment WHERE job = :job AND id = :id
