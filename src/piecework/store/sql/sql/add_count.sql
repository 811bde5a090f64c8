UPDATE piecework_batch SET total = total + :n, open = open + :n WHERE id = :batch
