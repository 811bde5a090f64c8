-- A table without a key can be published whole (CREATE PUBLICATION … FOR ALL TABLES), but then nothing may be deleted from it.
ALTER TABLE piecework_tally REPLICA IDENTITY FULL;
