-- One by one by their names: asked for all at once, the planner may go through all parts of the job for each.
SELECT n.name, p.state, p.call, p.number
FROM json_array_elements_text(:names::json) AS n (name)
CROSS JOIN LATERAL (
    SELECT state, call, number FROM piecework_part WHERE job = :job AND name = n.name LIMIT 1
) AS p
