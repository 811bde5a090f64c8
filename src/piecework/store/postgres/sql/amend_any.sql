-- Whether anything was ever done by hand: one look at the table.
SELECT 1 FROM piecework_amendment LIMIT 1
