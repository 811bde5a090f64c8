INSERT INTO piecework_part (job, number, name)
SELECT :job::bigint, :first::integer + place - 1, name
FROM json_array_elements_text(:names::json) WITH ORDINALITY AS t (name, place)
