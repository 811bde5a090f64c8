-- Plans that no operation walks any more.
DELETE FROM piecework_plan AS p
WHERE p.digest = ANY(ARRAY(SELECT json_array_elements_text(:digests::json)))
  AND NOT EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.digest = p.digest)
