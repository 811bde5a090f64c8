UPDATE piecework_operation SET awaits = wait ->> 0, wake_at = :now + (wait ->> 1)
WHERE job = (SELECT seq FROM piecework_job WHERE id = :id)
