-- What they waited for before is over; of most, there was nothing. While nobody waits for anything no id is looked up.
UPDATE piecework_operation INDEXED BY piecework_operation_wait
SET wait = NULL, awaits = NULL, wake_at = NULL, received = NULL
WHERE wait IS NOT NULL AND job IN (
    SELECT j.seq
    FROM json_each(
        CASE WHEN EXISTS (
            SELECT 1 FROM piecework_operation INDEXED BY piecework_operation_wait WHERE wait IS NOT NULL AND job > 0
        ) THEN :ids ELSE '[]' END
    ) AS s
    JOIN piecework_job AS j ON j.id = s.value
)
