SELECT count(*) FROM piecework_distributed WHERE forgot_by = :call
