UPDATE piecework_operation AS o SET received = k.payload, awaits = NULL, wake_at = NULL
FROM json_each(:rows) AS s JOIN piecework_signal AS k ON k.seq = s.value ->> 1
WHERE o.job = s.value ->> 0
