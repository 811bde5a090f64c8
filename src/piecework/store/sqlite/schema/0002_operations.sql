-- What an operation is beside its job. Its row bears its job's place in the table, which is a number: the index of terms,
-- which has many rows for each operation, is half as large by it.
CREATE TABLE piecework_operation (
    job          INTEGER PRIMARY KEY,               -- the job's seq
    digest       TEXT    NOT NULL,
    globals      TEXT    NOT NULL,                  -- a JSON object
    key          TEXT,                              -- held after the end, too, until another takes it over
    wait         TEXT,                              -- what it waits for, or waited for before the step where it is
    awaits       TEXT,                              -- the name of the signal, until that or the timeout has come
    wake_at      REAL,                              -- when the timeout comes, while it waits
    received     TEXT,                              -- the payload of the signal that came
    ending       TEXT,                              -- what it will have come to, once what it did is undone
    forked_from  TEXT,
    forked_after INTEGER
) STRICT;

CREATE UNIQUE INDEX piecework_operation_key ON piecework_operation (key) WHERE key IS NOT NULL;
CREATE INDEX piecework_operation_digest ON piecework_operation (digest);
CREATE INDEX piecework_operation_wake ON piecework_operation (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX piecework_operation_wait ON piecework_operation (job) WHERE wait IS NOT NULL;

CREATE TABLE piecework_plan (
    digest TEXT NOT NULL PRIMARY KEY,
    plan   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What operations are found by: in the order of their arrival, and all of one global together, to be replaced with it.
CREATE TABLE piecework_term (
    operation INTEGER NOT NULL,
    global    TEXT    NOT NULL,
    term      TEXT    NOT NULL,
    PRIMARY KEY (operation, global, term)
) STRICT, WITHOUT ROWID;

CREATE INDEX piecework_term_found ON piecework_term (term, operation);

CREATE TABLE piecework_signal (
    seq      INTEGER PRIMARY KEY,                   -- order of arrival
    job      TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    payload  TEXT    NOT NULL,
    by       TEXT,
    at       REAL    NOT NULL,
    taken_at REAL,
    UNIQUE (job, id)
) STRICT;

CREATE INDEX piecework_signal_kept ON piecework_signal (job, name, seq) WHERE taken_at IS NULL;

CREATE TABLE piecework_amendment (
    seq           INTEGER PRIMARY KEY,              -- order of arrival
    job           TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    run           INTEGER NOT NULL,
    what          TEXT    NOT NULL,
    by            TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    at            REAL    NOT NULL,
    cursor_before TEXT,
    cursor        TEXT,
    changes       TEXT,
    UNIQUE (job, id)
) STRICT;

ALTER TABLE piecework_attempt ADD COLUMN cursor TEXT;

-- The lines of a visit, so that they can be counted without reading those of the visits before.
CREATE INDEX piecework_attempt_visit ON piecework_attempt (job, cursor, run) WHERE cursor IS NOT NULL;

-- A line for each run with which an operation moved on. In the order of arrival, so that the lines of a commit stand
-- together whatever their operations are: found by the operation they would each make a page of the log.
CREATE TABLE piecework_step (
    seq         INTEGER PRIMARY KEY,
    operation   INTEGER NOT NULL,
    run         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    started_at  REAL,
    finished_at REAL    NOT NULL,
    worker      TEXT,
    error       TEXT,
    reason      TEXT,
    cursor      TEXT    NOT NULL,
    changes     TEXT,
    route       TEXT                                -- what the step said of the way on, if it did
) STRICT;

CREATE INDEX piecework_step_line ON piecework_step (operation, run);

ALTER TABLE piecework_batch ADD COLUMN always INTEGER NOT NULL DEFAULT 0;

-- The batches of steps that are splits, while they are open: a step that ends takes its own along.
CREATE INDEX piecework_batch_step ON piecework_batch ("then") WHERE always = 1 AND state = 'open';
