-- A distributed job: a token, the numbers of its parts, and what follows. A row without a token is deleted bite by bite.
CREATE TABLE piecework_distributed (
    seq          INTEGER PRIMARY KEY,               -- order of arrival
    token        TEXT    UNIQUE,
    state        TEXT    NOT NULL,                  -- as the other columns say, to be asked for
    producer     TEXT    NOT NULL,                  -- the run of the producer that pushes
    created_at   REAL    NOT NULL,
    changed_at   REAL    NOT NULL,
    ttl          REAL    NOT NULL,
    total        INTEGER NOT NULL,
    open         INTEGER NOT NULL CHECK (open >= 0),
    failed       INTEGER NOT NULL CHECK (failed >= 0),
    sealed       INTEGER NOT NULL,                  -- all parts are known
    complete     INTEGER NOT NULL,                  -- … and all were handed over
    expected     INTEGER,
    push_error   TEXT,
    last         TEXT,                              -- the part with which it was finished
    ended_at     REAL,
    expires_at   REAL,
    stopped_at   REAL,
    stopped_by   TEXT,
    reason       TEXT,
    base_at      REAL    NOT NULL,
    base_ended   INTEGER NOT NULL,
    "then"       TEXT,                              -- the follow-ups, as they are to be stored
    then_at      REAL,
    otherwise    TEXT,
    otherwise_at REAL,
    calls        TEXT    NOT NULL DEFAULT '[]',     -- the latest that stopped or resumed it
    forgot_by    TEXT                               -- the call that deleted it
) STRICT;

CREATE INDEX piecework_distributed_expiry ON piecework_distributed (expires_at)   WHERE expires_at IS NOT NULL;
CREATE INDEX piecework_distributed_forgot ON piecework_distributed (forgot_by)    WHERE forgot_by IS NOT NULL;

CREATE TABLE piecework_part (
    job      INTEGER NOT NULL,                      -- the distributed job's seq
    number   INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    state    TEXT    NOT NULL DEFAULT 'open' CHECK (state = 'open' OR state = 'done' OR state = 'failed'),
    failures INTEGER NOT NULL DEFAULT 0,
    ended_at REAL,
    call     TEXT,                                  -- the call that ended it
    result   TEXT,
    error    TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX piecework_part_name ON piecework_part (job, name);
CREATE INDEX piecework_part_open   ON piecework_part (job, number) WHERE state = 'open';
CREATE INDEX piecework_part_failed ON piecework_part (job, number) WHERE state = 'failed';
