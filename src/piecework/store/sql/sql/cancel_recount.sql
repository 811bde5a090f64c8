-- A piece that was parked for crashing had been counted as failed.
UPDATE piecework_batch SET failed = failed - 1, cancelled = cancelled + 1 WHERE id = :id
