UPDATE piecework_batch SET sealed = 1 WHERE id = :id AND sealed = -1
