INSERT INTO piecework_amendment (job, id, run, what, by, reason, at, cursor_before, cursor, changes)
SELECT id, :id, run, :what, :by, :reason, :now, cursor, :cursor, :changes FROM piecework_job WHERE id = :job
