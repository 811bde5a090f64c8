UPDATE piecework_job AS j SET "offer" = :offer, offered_as = s.given
FROM ROWS FROM (json_array_elements_text(:ids::json), json_array_elements_text(:given::json)) AS s (id, given)
WHERE j.id = s.id
