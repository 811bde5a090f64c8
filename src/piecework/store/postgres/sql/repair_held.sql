SELECT id FROM piecework_batch WHERE sealed = -1
