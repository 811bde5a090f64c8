INSERT INTO piecework_part (job, number, name) SELECT :job, :first + key, value FROM json_each(:names)
