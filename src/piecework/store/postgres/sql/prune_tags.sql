DELETE FROM piecework_tag AS g
USING piecework_job AS j, LATERAL json_array_elements_text(j.tags::json) AS t (tag)
WHERE j.seq = ANY(ARRAY(SELECT json_array_elements_text(:seqs::json)::bigint)) AND j.tags IS NOT NULL
  AND g.tag = t.tag AND g.job = j.seq
