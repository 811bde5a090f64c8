SELECT count(*) FROM piecework_job WHERE {where}
