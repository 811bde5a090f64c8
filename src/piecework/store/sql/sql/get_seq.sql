SELECT seq FROM piecework_job WHERE id = :id
