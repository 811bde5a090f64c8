UPDATE piecework_signal SET taken_at = :now WHERE seq IN (SELECT value ->> 1 FROM json_each(:rows))
