-- Which of a session's workers are over, as ranges of their numbers: [[first, last], …]. What they ask for arrives too late.
ALTER TABLE piecework_session ADD COLUMN reaped text COLLATE "C" NOT NULL DEFAULT '[]';
