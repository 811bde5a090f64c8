-- The batches at and below this one, whatever their continuations are doing.
WITH RECURSIVE doomed (batch) AS (
    SELECT :batch
    UNION
    SELECT b.id FROM doomed JOIN piecework_batch AS b INDEXED BY piecework_batch_below
        ON b.above = doomed.batch AND b.state = 'open' AND b.above IS NOT NULL
)
SELECT batch FROM doomed
