UPDATE piecework_operation AS o SET received = k.payload, awaits = NULL, wake_at = NULL
FROM json_to_recordset(:rows::json) AS s (job bigint, signal bigint) JOIN piecework_signal AS k ON k.seq = s.signal
WHERE o.job = s.job
