UPDATE piecework_job AS j SET offer = :offer, offered_as = s.value ->> 1
FROM json_each(:rows) AS s WHERE j.id = s.value ->> 0
