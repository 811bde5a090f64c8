-- One row for each job, from the call to the end of its keep. Text and numbers only: the queue is a table to be asked.
CREATE TABLE piecework_job (
    seq         INTEGER PRIMARY KEY,                -- order of arrival
    id          TEXT    NOT NULL UNIQUE,
    task        TEXT    NOT NULL,
    queue       TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    state       TEXT    NOT NULL CHECK (
        state = 'available' OR state = 'running' OR state = 'completed' OR state = 'waiting'
        OR state = 'failed' OR state = 'cancelled' OR state = 'parked'
    ),
    due         INTEGER NOT NULL DEFAULT 1,         -- 0 while an available job waits for its time
    run_at      REAL    NOT NULL,
    run         INTEGER NOT NULL DEFAULT 0,         -- fetches, ever; never goes back
    settled     INTEGER NOT NULL DEFAULT 0,         -- the last run whose outcome was recorded
    attempt     INTEGER NOT NULL DEFAULT 0,         -- attempts spent
    crashes     INTEGER NOT NULL DEFAULT 0,
    stopping    INTEGER NOT NULL DEFAULT 0,         -- somebody asked the running job to stop
    offer       INTEGER NOT NULL DEFAULT 0,         -- the splitter's run that offered this piece last …
    offered_as  TEXT,                               -- … and the id that it gave it, where it was stored before
    ordinal     INTEGER,
    claim       INTEGER,
    worker      TEXT,
    created_at  REAL    NOT NULL,
    started_at  REAL,
    finished_at REAL,                               -- set when the end was counted
    expires_at  REAL,                               -- by when it must have been begun
    stopped_by  TEXT,                               -- who asked it to stop …
    stopped_at  REAL,                               -- … and when; the reason says why
    batch       TEXT,
    root        TEXT,                               -- the root of the tree, where it is not the batch
    below       TEXT,                               -- the batch that it waits for, or was split into last
    piece       TEXT,
    key         TEXT,
    cursor      TEXT,
    options     TEXT,
    progress    TEXT,
    reason      TEXT,
    error       TEXT,
    result      TEXT,
    args        TEXT    NOT NULL
) STRICT;

-- Only what may be fetched now is in the line: neither finished nor future jobs make it longer.
-- Conditions are chains of OR, not IN lists: a list is looked up in a table of its own for every changed row, which
-- made each update 1.2 µs dearer (of 3).
CREATE INDEX piecework_job_line    ON piecework_job (queue, priority, run_at) WHERE state = 'available' AND due = 1;
CREATE INDEX piecework_job_later   ON piecework_job (run_at)                  WHERE state = 'available' AND due = 0;
CREATE INDEX piecework_job_expiry  ON piecework_job (expires_at)              WHERE expires_at IS NOT NULL AND state = 'available';
CREATE INDEX piecework_job_running ON piecework_job (worker, claim)           WHERE state = 'running';
CREATE INDEX piecework_job_waiting ON piecework_job (batch)                   WHERE state = 'waiting';
CREATE INDEX piecework_job_ended   ON piecework_job (state, batch, ordinal)   WHERE (state = 'failed' OR state = 'cancelled' OR state = 'parked');
CREATE UNIQUE INDEX piecework_job_place ON piecework_job (batch, ordinal)     WHERE batch IS NOT NULL;
CREATE UNIQUE INDEX piecework_job_piece ON piecework_job (batch, piece)       WHERE piece IS NOT NULL;
CREATE UNIQUE INDEX piecework_job_key   ON piecework_job (key)
    WHERE key IS NOT NULL AND (state = 'available' OR state = 'running' OR state = 'waiting' OR state = 'parked');

-- A run that did not complete leaves a line here; a completed one is told by the job's own row.
CREATE TABLE piecework_attempt (
    job         TEXT    NOT NULL,
    run         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    outcome     TEXT    NOT NULL,
    started_at  REAL,
    finished_at REAL    NOT NULL,
    worker      TEXT,
    error       TEXT,
    reason      TEXT,
    PRIMARY KEY (job, run, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE piecework_batch (
    id            TEXT    NOT NULL PRIMARY KEY,
    "then"        TEXT,
    above         TEXT,                             -- the batch that the continuation is a piece of
    state         TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed', 'stopped')),
    on_failure    TEXT    NOT NULL CHECK (on_failure IN ('fail_fast', 'finish', 'compose')),
    sealed        INTEGER NOT NULL DEFAULT 0,       -- -1: sealed, but a retry still brings pieces back
    total         INTEGER NOT NULL DEFAULT 0,
    open          INTEGER NOT NULL DEFAULT 0 CHECK (open >= 0),
    completed     INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    cancelled     INTEGER NOT NULL DEFAULT 0,
    then_queue    TEXT,
    then_priority INTEGER,
    created_at    REAL    NOT NULL,
    finished_at   REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX piecework_batch_then  ON piecework_batch ("then") WHERE "then" IS NOT NULL;
CREATE INDEX piecework_batch_loose ON piecework_batch (finished_at) WHERE "then" IS NULL;
CREATE INDEX piecework_batch_below ON piecework_batch (above) WHERE state = 'open' AND above IS NOT NULL;
CREATE INDEX piecework_batch_held ON piecework_batch (id) WHERE sealed = -1;
CREATE INDEX piecework_batch_dead ON piecework_batch (id) WHERE state IN ('failed', 'stopped') AND open > 0;

-- How many jobs are in each queue and state, so that no screen ever counts rows.
CREATE TABLE piecework_tally (
    queue TEXT    NOT NULL,
    state TEXT    NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE piecework_pause (
    queue TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE piecework_session (
    id         TEXT    NOT NULL PRIMARY KEY,
    beat       INTEGER NOT NULL,
    started_at REAL    NOT NULL,
    seen_at    REAL    NOT NULL,
    name       TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    polled_at  REAL                                 -- when its workers had all looked for work last
) STRICT, WITHOUT ROWID;
