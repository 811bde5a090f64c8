-- Those that somebody begins an operation by just now are left: a later prune finds them.
SELECT digest FROM piecework_plan
WHERE digest = ANY(ARRAY(SELECT json_array_elements_text(:digests::json))) FOR UPDATE SKIP LOCKED
