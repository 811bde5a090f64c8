-- The batches among these that have come to their end. One that fails fast does so for a failure of now, not of before.
SELECT id FROM piecework_batch
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'open'
  AND (
    (sealed = 1 AND open = 0)
    OR (on_failure = 'fail_fast' AND id IN (SELECT value FROM json_each(:failing)))
  )
