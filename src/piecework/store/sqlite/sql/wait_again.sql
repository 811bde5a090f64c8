UPDATE piecework_operation SET wake_at = :now + (wait ->> 1)
WHERE job = (SELECT seq FROM piecework_job WHERE id = :id) AND awaits IS NOT NULL
