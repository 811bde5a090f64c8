SELECT id, queue, state, batch FROM piecework_job
WHERE batch IN (SELECT value FROM json_each(:batches)) AND state = 'available' LIMIT :limit
