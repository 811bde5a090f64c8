-- Sealed, but held open: a retry still brings pieces back, and the batch must not end before the last of them.
UPDATE piecework_batch SET sealed = -1 WHERE id = :id AND sealed = 1
