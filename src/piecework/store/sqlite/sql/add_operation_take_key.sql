UPDATE piecework_operation SET key = NULL WHERE key IN (SELECT value FROM json_each(:keys)) AND key IS NOT NULL
