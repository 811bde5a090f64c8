INSERT INTO piecework_batch (id, "then", above, on_failure, then_queue, then_priority, always, created_at)
VALUES (
    :id, :then, (SELECT batch FROM piecework_job WHERE id = :then), :on_failure, :then_queue, :then_priority, :always, :now
)
ON CONFLICT DO NOTHING
