-- Counters are locked in one order by all, so that nobody waits for one who waits for him.
SELECT id FROM piecework_batch WHERE id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
ORDER BY id FOR NO KEY UPDATE
