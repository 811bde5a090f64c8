-- What jobs are known by outside. At the end of the row, and null for most: such a job costs four bytes, and no index.
ALTER TABLE piecework_job ADD COLUMN identity  TEXT;                -- the business key by which its status is asked for
ALTER TABLE piecework_job ADD COLUMN tags      TEXT;                -- a JSON array of words, each once
ALTER TABLE piecework_job ADD COLUMN status    TEXT;                -- what it said of itself last, as JSON …
ALTER TABLE piecework_job ADD COLUMN status_at REAL;                -- … and when

CREATE INDEX piecework_job_identity ON piecework_job (identity, task) WHERE identity IS NOT NULL;
CREATE INDEX piecework_job_busy     ON piecework_job (identity, task)
    WHERE identity IS NOT NULL AND (state = 'available' OR state = 'running' OR state = 'waiting');
CREATE INDEX piecework_job_status   ON piecework_job (identity, task, status_at)
    WHERE identity IS NOT NULL AND status_at IS NOT NULL;

-- By what words jobs are found, in the order of their arrival.
CREATE TABLE piecework_tag (
    tag TEXT    NOT NULL,
    job INTEGER NOT NULL,                           -- the job's seq
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
