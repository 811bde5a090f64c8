-- Operations among these jobs that somebody else changes just now, as who begins another with the key of one that has
-- ended: a caller's transaction, which may stay open.
WITH mine AS MATERIALIZED (
    SELECT job FROM piecework_operation
    WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint)) FOR UPDATE SKIP LOCKED
)
SELECT job FROM piecework_operation WHERE job = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint))
EXCEPT SELECT job FROM mine
