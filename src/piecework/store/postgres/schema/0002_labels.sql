-- What jobs are known by outside: null for most, and such a job is in none of these indexes.
ALTER TABLE piecework_job ADD COLUMN identity  text COLLATE "C";    -- the business key by which its status is asked for
ALTER TABLE piecework_job ADD COLUMN tags      text COLLATE "C";    -- a JSON array of words, each once
ALTER TABLE piecework_job ADD COLUMN status    text COLLATE "C";    -- what it said of itself last, as JSON …
ALTER TABLE piecework_job ADD COLUMN status_at double precision;    -- … and when

CREATE INDEX piecework_job_identity ON piecework_job (identity, task, seq) WHERE identity IS NOT NULL;
CREATE INDEX piecework_job_busy     ON piecework_job (identity, task)
    WHERE identity IS NOT NULL AND state IN ('available', 'running', 'waiting');
CREATE INDEX piecework_job_status   ON piecework_job (identity, task, status_at, seq)
    WHERE identity IS NOT NULL AND status_at IS NOT NULL;

-- By what words jobs are found, in the order of their arrival.
CREATE TABLE piecework_tag (
    job bigint NOT NULL,                                -- the job's seq
    tag text   COLLATE "C" NOT NULL,
    PRIMARY KEY (tag, job)
);
