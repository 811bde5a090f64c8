SELECT {columns} FROM {jobs}
WHERE ({where}) AND seq > :after
ORDER BY {order} LIMIT :limit
