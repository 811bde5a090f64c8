DELETE FROM piecework_tag WHERE (tag, job) IN (
    SELECT t.value, j.seq FROM piecework_job AS j CROSS JOIN json_each(j.tags) AS t
    WHERE j.seq IN (SELECT value FROM json_each(:seqs))
)
