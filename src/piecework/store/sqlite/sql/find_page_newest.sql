SELECT {columns} FROM {jobs}
WHERE ({where}) AND {after}
ORDER BY {order} DESC LIMIT :limit
