-- One row for each job, from the call to the end of its keep. Text and numbers only: the queue is a table to be asked.
-- Numbers first: they are aligned, and text behind them wastes no room. Times are seconds since the epoch (UTC).
CREATE TABLE piecework_job (
    seq         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- order of arrival
    run_at      double precision NOT NULL,
    created_at  double precision NOT NULL,
    started_at  double precision,
    finished_at double precision,                   -- set when the end was counted
    expires_at  double precision,                   -- by when it must have been begun
    stopped_at  double precision,
    claim       bigint,
    priority    integer NOT NULL,
    run         integer NOT NULL DEFAULT 0,         -- fetches, ever; never goes back
    settled     integer NOT NULL DEFAULT 0,         -- the last run whose outcome was recorded
    attempt     integer NOT NULL DEFAULT 0,         -- attempts spent
    crashes     integer NOT NULL DEFAULT 0,
    "offer"     integer NOT NULL DEFAULT 0,         -- the splitter's run that offered this piece last …
    ordinal     integer,
    stopping    integer NOT NULL DEFAULT 0,         -- 1: somebody asked the running job to stop; 2: so that it is undone
    due         boolean NOT NULL DEFAULT true,      -- false while an available job waits for its time
    id          text    COLLATE "C" NOT NULL UNIQUE,
    state       text    COLLATE "C" NOT NULL CHECK (
        state IN ('available', 'running', 'completed', 'waiting', 'failed', 'cancelled', 'parked')
    ),
    queue       text    COLLATE "C" NOT NULL,
    task        text    COLLATE "C" NOT NULL,
    worker      text    COLLATE "C",
    batch       text    COLLATE "C",
    root        text    COLLATE "C",                -- the root of the tree, where it is not the batch
    below       text    COLLATE "C",                -- the batch that it waits for, or was split into last
    piece       text    COLLATE "C",
    offered_as  text    COLLATE "C",                -- … and the id that the splitter gave it, where it was stored before
    key         text    COLLATE "C",
    stopped_by  text    COLLATE "C",                -- who asked it to stop; stopped_at says when, the reason why
    cursor      text    COLLATE "C",
    options     text    COLLATE "C",
    progress    text    COLLATE "C",
    reason      text    COLLATE "C",
    error       text    COLLATE "C",
    result      text    COLLATE "C",
    args        text    COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.05);

-- Only what may be fetched now is in the line: neither finished nor future jobs make it longer.
CREATE INDEX piecework_job_line    ON piecework_job (queue, priority, run_at, seq) WHERE state = 'available' AND due;
CREATE INDEX piecework_job_later   ON piecework_job (run_at)                       WHERE state = 'available' AND NOT due;
CREATE INDEX piecework_job_expiry  ON piecework_job (expires_at)                   WHERE expires_at IS NOT NULL AND state = 'available';
CREATE INDEX piecework_job_running ON piecework_job (worker, claim)                WHERE state = 'running';
CREATE INDEX piecework_job_waiting ON piecework_job (batch)                        WHERE state = 'waiting';
CREATE INDEX piecework_job_ended   ON piecework_job (state, batch, ordinal)        WHERE state IN ('failed', 'cancelled', 'parked');
CREATE UNIQUE INDEX piecework_job_place ON piecework_job (batch, ordinal)          WHERE batch IS NOT NULL;
CREATE UNIQUE INDEX piecework_job_piece ON piecework_job (batch, piece)            WHERE piece IS NOT NULL;
CREATE UNIQUE INDEX piecework_job_key   ON piecework_job (key)
    WHERE key IS NOT NULL AND state IN ('available', 'running', 'waiting', 'parked');

-- A run that did not complete leaves a line here; a completed one is told by the job's own row.
CREATE TABLE piecework_attempt (
    job         text    COLLATE "C" NOT NULL,
    run         integer NOT NULL,
    attempt     integer NOT NULL,
    outcome     text    COLLATE "C" NOT NULL,
    started_at  double precision,
    finished_at double precision NOT NULL,
    worker      text    COLLATE "C",
    error       text    COLLATE "C",
    reason      text    COLLATE "C",
    cursor      text    COLLATE "C",
    PRIMARY KEY (job, run, outcome)
);

-- The lines of a visit, so that they can be counted without reading those of the visits before.
CREATE INDEX piecework_attempt_visit ON piecework_attempt (job, cursor, run) WHERE cursor IS NOT NULL;

CREATE TABLE piecework_batch (
    id            text    COLLATE "C" NOT NULL PRIMARY KEY,
    "then"        text    COLLATE "C",
    above         text    COLLATE "C",                  -- the batch that the continuation is a piece of
    state         text    COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed', 'stopped')),
    on_failure    text    COLLATE "C" NOT NULL CHECK (on_failure IN ('fail_fast', 'finish', 'compose')),
    sealed        integer NOT NULL DEFAULT 0,           -- -1: sealed, but a retry still brings pieces back
    total         integer NOT NULL DEFAULT 0,
    open          integer NOT NULL DEFAULT 0 CHECK (open >= 0),
    completed     integer NOT NULL DEFAULT 0,
    failed        integer NOT NULL DEFAULT 0,
    cancelled     integer NOT NULL DEFAULT 0,
    always        boolean NOT NULL DEFAULT false,       -- the continuation is released whatever becomes of it
    then_queue    text    COLLATE "C",
    then_priority integer,
    created_at    double precision NOT NULL,
    finished_at   double precision
) WITH (fillfactor = 50);  -- counters are changed in place, page by page

CREATE INDEX piecework_batch_then  ON piecework_batch ("then") WHERE "then" IS NOT NULL;
CREATE INDEX piecework_batch_loose ON piecework_batch (finished_at, id) WHERE "then" IS NULL;
CREATE INDEX piecework_batch_open  ON piecework_batch (id, above) WHERE state = 'open';
CREATE INDEX piecework_batch_below ON piecework_batch (above) WHERE state = 'open' AND above IS NOT NULL;
CREATE INDEX piecework_batch_step  ON piecework_batch ("then") WHERE always AND state = 'open';
CREATE INDEX piecework_batch_held  ON piecework_batch (id) WHERE sealed = -1;
CREATE INDEX piecework_batch_dead  ON piecework_batch (id) WHERE state IN ('failed', 'stopped');

-- How many jobs are in each queue and state: the sum of all lines. Every transaction adds lines and changes none, so
-- nobody waits for a counter; now and then somebody folds them into one for each queue and state.
CREATE TABLE piecework_tally (
    queue text    COLLATE "C" NOT NULL,
    state text    COLLATE "C" NOT NULL,
    n     bigint  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE piecework_pause (
    queue text COLLATE "C" NOT NULL PRIMARY KEY
);

CREATE TABLE piecework_session (
    id         text    COLLATE "C" NOT NULL PRIMARY KEY,
    beat       integer NOT NULL,
    started_at double precision NOT NULL,
    seen_at    double precision NOT NULL,
    name       text    COLLATE "C" NOT NULL,
    host       text    COLLATE "C" NOT NULL,
    pid        integer NOT NULL,
    polled_at  double precision                         -- when its workers had all looked for work last
) WITH (fillfactor = 50);

-- Who sleeps and wants to be woken. Whoever makes a job available takes the lines away and notifies: once, not for
-- each job. Nothing depends on it.
CREATE TABLE piecework_sleeper (
    id text COLLATE "C" NOT NULL PRIMARY KEY
);

-- What an operation is beside its job, whose number of arrival it bears.
CREATE TABLE piecework_operation (
    job          bigint NOT NULL PRIMARY KEY,
    wake_at      double precision,                      -- when the timeout comes, while it waits
    forked_after integer,
    digest       text COLLATE "C" NOT NULL,
    key          text COLLATE "C",                      -- held after the end, too, until another takes it over
    wait         text COLLATE "C",                      -- what it waits for, or waited for before the step where it is
    awaits       text COLLATE "C",                      -- the name of the signal, until that or the timeout has come
    received     text COLLATE "C",                      -- the payload of the signal that came
    ending       text COLLATE "C",                      -- what it will have come to, once what it did is undone
    forked_from  text COLLATE "C",
    globals      text COLLATE "C" NOT NULL              -- a JSON object
);

CREATE UNIQUE INDEX piecework_operation_key ON piecework_operation (key) WHERE key IS NOT NULL;
CREATE INDEX piecework_operation_digest ON piecework_operation (digest);
CREATE INDEX piecework_operation_wake   ON piecework_operation (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX piecework_operation_wait   ON piecework_operation (job) WHERE wait IS NOT NULL;

CREATE TABLE piecework_plan (
    digest text COLLATE "C" NOT NULL PRIMARY KEY,
    plan   text COLLATE "C" NOT NULL
);

-- What operations are found by: in the order of their arrival, and all of one global together, to be replaced with it.
CREATE TABLE piecework_term (
    operation bigint NOT NULL,
    "global"  text   COLLATE "C" NOT NULL,
    term      text   COLLATE "C" NOT NULL,
    PRIMARY KEY (operation, "global", term)
);

CREATE INDEX piecework_term_found ON piecework_term (term, operation);

CREATE TABLE piecework_signal (
    seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       double precision NOT NULL,
    taken_at double precision,
    job      text   COLLATE "C" NOT NULL,
    id       text   COLLATE "C" NOT NULL,
    name     text   COLLATE "C" NOT NULL,
    by       text   COLLATE "C",
    payload  text   COLLATE "C" NOT NULL,
    UNIQUE (job, id)
);

CREATE INDEX piecework_signal_kept ON piecework_signal (job, name, seq) WHERE taken_at IS NULL;

CREATE TABLE piecework_amendment (
    seq           bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            double precision NOT NULL,
    run           integer NOT NULL,
    job           text    COLLATE "C" NOT NULL,
    id            text    COLLATE "C" NOT NULL,
    what          text    COLLATE "C" NOT NULL,
    by            text    COLLATE "C" NOT NULL,
    reason        text    COLLATE "C" NOT NULL,
    cursor_before text    COLLATE "C",
    cursor        text    COLLATE "C",
    changes       text    COLLATE "C",
    UNIQUE (job, id)
);

-- A line for each run with which an operation moved on.
CREATE TABLE piecework_step (
    seq         bigint  GENERATED ALWAYS AS IDENTITY,
    operation   bigint  NOT NULL,
    started_at  double precision,
    finished_at double precision NOT NULL,
    run         integer NOT NULL,
    attempt     integer NOT NULL,
    outcome     text    COLLATE "C" NOT NULL,
    worker      text    COLLATE "C",
    error       text    COLLATE "C",
    reason      text    COLLATE "C",
    cursor      text    COLLATE "C" NOT NULL,
    changes     text    COLLATE "C",
    route       text    COLLATE "C",                -- what the step said of the way on, if it did
    PRIMARY KEY (operation, run, seq)
);
