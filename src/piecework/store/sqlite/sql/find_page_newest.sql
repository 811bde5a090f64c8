SELECT {columns} FROM piecework_job
WHERE ({where}) AND (:after IS NULL OR seq < :after)
ORDER BY seq DESC LIMIT :limit
