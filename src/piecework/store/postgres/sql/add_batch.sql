INSERT INTO piecework_batch (id, "then", above, on_failure, then_queue, then_priority, created_at)
VALUES (
    :id, :then, (SELECT batch FROM piecework_job WHERE id = :then), :on_failure, :then_queue, :then_priority, :now
)
ON CONFLICT DO NOTHING
