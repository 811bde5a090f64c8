SELECT p.name, p.state, p.call, p.number FROM json_each(:names) AS n
CROSS JOIN piecework_part AS p ON p.job = :job AND p.name = n.value
