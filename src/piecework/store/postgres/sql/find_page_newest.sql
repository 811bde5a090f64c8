SELECT {columns} FROM piecework_job
WHERE ({where}) AND seq < :after
ORDER BY seq DESC LIMIT :limit
