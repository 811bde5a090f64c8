-- Whether anything was ever done by hand: one look at the table.
SELECT 1 FROM piecework_amendment WHERE seq > 0 LIMIT 1
