"""The limit: the least that a queue on SQLite can do, written by hand, without any of what makes it safe to use.

A table with an integer key and one partial index, a loop that settles a hundred jobs and claims the next hundred in one
transaction. No ids, no results, no counters, no history, no retries, and no function is ever called.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bench.reading import NAME, QUEUE, USER, NotExact, Reading, Watch

BITE = 100
LEASE = 30.0
WORKER = "limit"
ARGS = json.dumps({"user_id": USER, "name": NAME}, separators=(",", ":"))  # as piecework writes it

SCHEMA = """
CREATE TABLE job (
    id       INTEGER PRIMARY KEY,
    queue    TEXT    NOT NULL,
    task     TEXT    NOT NULL,
    state    INTEGER NOT NULL,  -- 0 ready, 1 running, 2 done
    priority INTEGER NOT NULL,
    run_at   REAL    NOT NULL,
    args     TEXT    NOT NULL,
    attempt  INTEGER NOT NULL DEFAULT 0,
    worker   TEXT,
    lease    REAL
);
CREATE INDEX job_line ON job (queue, priority, run_at) WHERE state = 0;
"""

INSERT = "INSERT INTO job (queue, task, state, priority, run_at, args) VALUES (?, ?, 0, ?, ?, ?)"

CLAIM = """
UPDATE job SET state = 1, worker = ?, lease = ?, attempt = attempt + 1
WHERE id IN (
    SELECT id FROM job WHERE state = 0 AND queue = ? AND run_at <= ? ORDER BY priority, run_at, id LIMIT ?
)
RETURNING id, task, args
"""

ACK_UPDATE = "UPDATE job SET state = 2 WHERE id IN (SELECT value FROM json_each(?)) AND worker = ? AND state = 1"
ACK_DELETE = "DELETE FROM job WHERE id IN (SELECT value FROM json_each(?)) AND worker = ? AND state = 1"

Row = tuple[str, str, int, float, str]


def connect(path: Path, synchronous: str) -> sqlite3.Connection:
    """A connection set as piecework sets its own; the log is folded back at the same size."""
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute(f"PRAGMA synchronous = {synchronous}")
    con.execute("PRAGMA wal_autocheckpoint = 4096")  # pages of 4 KiB
    con.execute("PRAGMA cache_size = -32000")
    con.execute("PRAGMA temp_store = MEMORY")
    return con


def rows(n: int) -> list[Row]:
    """The same content as piecework's jobs, made before the clock starts."""
    now = time.time()
    return [(QUEUE, "noop", 0, now, ARGS)] * n


def singles(path: Path, synchronous: str) -> sqlite3.Connection:
    """A table for rows that come one by one."""
    con = connect(path, synchronous)
    con.executescript(SCHEMA)
    con.executemany(INSERT, rows(10))  # the statement is prepared, the file is open
    return con


def insert_one_by_one(con: sqlite3.Connection, content: list[Row]) -> None:
    """INSERT and commit, for each row."""
    for row in content:
        con.execute(INSERT, row)


def insert_many(path: Path, n: int, synchronous: str) -> Reading:
    """`n` rows with executemany in one transaction; they stay in the file for `drain`."""
    with closing(connect(path, synchronous)) as con:
        con.executescript(SCHEMA)
        content = rows(n)
        with Watch() as watch:
            con.execute("BEGIN IMMEDIATE")
            con.executemany(INSERT, content)
            con.execute("COMMIT")
    return watch.reading(n)


def drain(path: Path, n: int, synchronous: str, *, delete: bool) -> Reading:
    """Claims and settles all of them by the hundred."""
    ack = ACK_DELETE if delete else ACK_UPDATE
    with closing(connect(path, synchronous)) as con:
        with Watch() as watch:
            done = _drain(con, ack)
        (undone,) = con.execute("SELECT count(*) FROM job WHERE state <> 2").fetchone()
        (twice,) = con.execute("SELECT count(*) FROM job WHERE attempt <> 1").fetchone()
    if done != n or undone or twice:
        raise NotExact(
            f"the limit's own loop settled {done} of {n} jobs, {undone} are left, {twice} ran more than once"
        )
    return watch.reading(n)


def _drain(con: sqlite3.Connection, ack: str) -> int:
    done = 0
    held: list[int] = []
    while True:
        con.execute("BEGIN IMMEDIATE")
        if held:
            done += con.execute(ack, (json.dumps(held), WORKER)).rowcount
        now = time.time()
        held = [row[0] for row in con.execute(CLAIM, (WORKER, now + LEASE, QUEUE, now, BITE)).fetchall()]
        con.execute("COMMIT")
        if not held:
            return done
