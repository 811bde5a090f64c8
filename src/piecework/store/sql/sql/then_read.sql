SELECT queue, batch, attempt, run, state FROM piecework_job WHERE id = :id
