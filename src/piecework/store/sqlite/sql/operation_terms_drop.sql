DELETE FROM piecework_term
WHERE (operation, global, term) IN (
    SELECT t.operation, t.global, t.term FROM json_each(:rows) AS s
    JOIN piecework_term AS t ON t.operation = s.value ->> 0 AND t.global = s.value ->> 1
)
