-- They came to their end before they could be undone.
UPDATE piecework_operation AS o SET ending = NULL
FROM json_array_elements_text(:ids::json) AS s (id) JOIN piecework_job AS j ON j.id = s.id
WHERE o.job = j.seq
