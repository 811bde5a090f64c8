SELECT {columns} FROM {jobs}
WHERE ({where}) AND (:after IS NULL OR seq < :after)
ORDER BY seq DESC LIMIT :limit
