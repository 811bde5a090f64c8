SELECT id, "then", state, on_failure, sealed, total, open, completed, failed, cancelled, created_at, finished_at,
       then_queue, then_priority, always
FROM piecework_batch WHERE id = :id
