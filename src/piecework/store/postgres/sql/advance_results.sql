-- What an operation that completed as a piece came to, for whoever composes.
UPDATE piecework_job AS j SET result = (SELECT o.globals FROM piecework_operation AS o WHERE o.job = j.seq)
WHERE j.id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))
