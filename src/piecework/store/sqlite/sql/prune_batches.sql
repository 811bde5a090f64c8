DELETE FROM piecework_batch WHERE "then" IN (SELECT value FROM json_each(:ids)) AND "then" IS NOT NULL
