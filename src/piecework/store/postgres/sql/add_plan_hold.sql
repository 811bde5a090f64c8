-- Kept from being pruned before the operations are there that walk it.
SELECT digest FROM piecework_plan
WHERE digest = ANY(ARRAY(SELECT json_array_elements_text(:digests::json))) ORDER BY digest FOR KEY SHARE
