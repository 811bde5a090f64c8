INSERT INTO piecework_amendment (job, id, run, what, by, reason, at, cursor_before, cursor, changes)
SELECT j.id, s.id, j.run, s.what, s.by, s.reason, :now, j.cursor, s.cursor, s.changes
FROM json_to_recordset(:rows::json)
    AS s (job text, id text, what text, by text, reason text, cursor text, changes text)
JOIN piecework_job AS j ON j.id = s.job
