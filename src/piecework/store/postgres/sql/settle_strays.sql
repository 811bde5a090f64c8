-- Pieces that an earlier run of the splitter offered and this one did not.
SELECT coalesce(piece, ordinal::text) FROM piecework_job
WHERE batch = :batch AND "offer" < :run AND state <> 'cancelled'
ORDER BY ordinal LIMIT 6
