SELECT id FROM piecework_batch INDEXED BY piecework_batch_held WHERE sealed = -1
