UPDATE piecework_signal AS k SET taken_at = :now
FROM json_to_recordset(:rows::json) AS s (job bigint, signal bigint)
WHERE k.seq = s.signal
