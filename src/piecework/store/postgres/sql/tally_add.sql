INSERT INTO piecework_tally (queue, state, n)
SELECT s.queue, s.state, s.n::bigint
FROM ROWS FROM (
    json_array_elements_text(:queues::json), json_array_elements_text(:states::json),
    json_array_elements_text(:counts::json)
) AS s (queue, state, n)
