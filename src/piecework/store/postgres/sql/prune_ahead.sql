-- Are these jobs all too young? Nothing else about them is asked, because there may be a million.
SELECT count(*), max(seq), count(*) FILTER (WHERE created_at >= :before)
FROM (SELECT seq, created_at FROM piecework_job WHERE seq > :after ORDER BY seq LIMIT :limit) AS j
