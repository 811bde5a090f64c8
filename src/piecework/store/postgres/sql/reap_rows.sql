SELECT id, queue, batch, run, attempt, crashes, stopping, reason FROM piecework_job
WHERE state = 'running' AND worker >= :low AND worker < :high
ORDER BY seq
