-- The tags of the jobs as they are stored: of one that was there before, they are there, too.
INSERT INTO piecework_tag (tag, job)
SELECT t.tag, j.seq FROM piecework_job AS j, LATERAL json_array_elements_text(j.tags::json) AS t (tag)
WHERE j.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json))) AND j.tags IS NOT NULL
ON CONFLICT DO NOTHING
