SELECT min(run_at) FROM piecework_job INDEXED BY piecework_job_later WHERE state = 'available' AND due = 0
