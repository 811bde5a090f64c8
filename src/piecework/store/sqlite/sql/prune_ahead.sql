-- Are these jobs all too young? Nothing else about them is asked, because there may be a million.
SELECT count(*), max(seq), coalesce(sum(created_at >= :before), 0)
FROM (SELECT seq, created_at FROM piecework_job WHERE seq > :after ORDER BY seq LIMIT :limit)
