-- The jobs themselves, and all below them.
WITH RECURSIVE gone (id) AS (
    SELECT json_array_elements_text(:ids::json) COLLATE "C"
    UNION
    SELECT p.id FROM gone JOIN piecework_batch AS b ON b."then" = gone.id JOIN piecework_job AS p ON p.batch = b.id
)
SELECT j.seq, j.id, j.queue, j.state, j.batch, j.finished_at FROM gone JOIN piecework_job AS j ON j.id = gone.id
