UPDATE piecework_operation SET awaits = wait::json ->> 0, wake_at = :now + (wait::json ->> 1)::float8
WHERE job = (SELECT seq FROM piecework_job WHERE id = :id)
