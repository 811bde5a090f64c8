UPDATE piecework_job SET below = :id WHERE id = :then
