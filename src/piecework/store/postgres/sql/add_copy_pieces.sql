COPY piecework_job (
    id, args, ordinal, piece, task, queue, priority, options, state, due, run_at, created_at, batch, root, "offer"
) FROM STDIN
