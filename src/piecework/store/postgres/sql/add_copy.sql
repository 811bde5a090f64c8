COPY piecework_job (id, args, task, queue, priority, options, state, due, run_at, created_at) FROM STDIN
