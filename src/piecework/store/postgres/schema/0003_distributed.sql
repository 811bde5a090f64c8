-- A distributed job: a token, the numbers of its parts, and what follows. A row without a token is deleted bite by bite.
CREATE TABLE piecework_distributed (
    seq          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of arrival
    created_at   double precision NOT NULL,
    changed_at   double precision NOT NULL,
    ttl          double precision NOT NULL,
    ended_at     double precision,
    expires_at   double precision,
    stopped_at   double precision,
    base_at      double precision NOT NULL,
    then_at      double precision,
    otherwise_at double precision,
    total        integer NOT NULL,
    open         integer NOT NULL CHECK (open >= 0),
    failed       integer NOT NULL CHECK (failed >= 0),
    expected     bigint,
    base_ended   integer NOT NULL,
    sealed       integer NOT NULL,                  -- all parts are known
    complete     integer NOT NULL,                  -- … and all were handed over
    token        text    COLLATE "C" UNIQUE,
    state        text    COLLATE "C" NOT NULL,      -- as the other columns say, to be asked for
    producer     text    COLLATE "C" NOT NULL,      -- the run of the producer that pushes
    push_error   text    COLLATE "C",
    last         text    COLLATE "C",               -- the part with which it was finished
    stopped_by   text    COLLATE "C",
    reason       text    COLLATE "C",
    "then"       text    COLLATE "C",               -- the follow-ups, as they are to be stored
    otherwise    text    COLLATE "C",
    calls        text    COLLATE "C" NOT NULL DEFAULT '[]',         -- the latest that stopped or resumed it
    forgot_by    text    COLLATE "C"                -- the call that deleted it
) WITH (fillfactor = 50);

CREATE INDEX piecework_distributed_expiry ON piecework_distributed (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX piecework_distributed_forgot ON piecework_distributed (forgot_by) WHERE forgot_by IS NOT NULL;

CREATE TABLE piecework_part (
    job      bigint  NOT NULL,                      -- the distributed job's seq
    ended_at double precision,
    number   integer NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    name     text    COLLATE "C" NOT NULL,
    state    text    COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed')),
    call     text    COLLATE "C",                   -- the call that ended it
    result   text    COLLATE "C",
    error    text    COLLATE "C",
    PRIMARY KEY (job, number)
);

CREATE UNIQUE INDEX piecework_part_name ON piecework_part (job, name);
CREATE INDEX piecework_part_open   ON piecework_part (job, number) WHERE state = 'open';
CREATE INDEX piecework_part_failed ON piecework_part (job, number) WHERE state = 'failed';
