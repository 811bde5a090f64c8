SELECT total, open, completed, failed, cancelled FROM piecework_batch WHERE id = :id AND state = 'open'
