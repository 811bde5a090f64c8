-- As with the waits: while no step is split, no id is looked up.
SELECT id FROM piecework_batch INDEXED BY piecework_batch_step
WHERE always = 1 AND state = 'open' AND "then" IN (
    SELECT value
    FROM json_each(
        CASE WHEN EXISTS (
            SELECT 1 FROM piecework_batch INDEXED BY piecework_batch_step WHERE always = 1 AND state = 'open' AND "then" > ''
        ) THEN :ids ELSE '[]' END
    )
)
