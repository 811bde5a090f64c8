-- Plans that no operation walks any more.
DELETE FROM piecework_plan
WHERE digest IN (SELECT value FROM json_each(:digests))
  AND NOT EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.digest = piecework_plan.digest)
