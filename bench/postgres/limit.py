"""The limit on PostgreSQL: the least that a queue there can do, written by hand with psycopg.

One connection and a table with an integer key and one partial index. Rows come by COPY; a loop settles a hundred jobs and
claims the next hundred in one transaction, sent as one pipeline. No ids, no results, no counters, no history.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from bench.limit import ARGS, BITE, LEASE, WORKER
from bench.reading import QUEUE, NotExact, Reading, Watch

SCHEMA = (
    b"""CREATE TABLE job (
    id       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    text    NOT NULL,
    task     text    NOT NULL,
    state    smallint NOT NULL,  -- 0 ready, 1 running, 2 done
    priority integer NOT NULL,
    run_at   double precision NOT NULL,
    args     text    NOT NULL,
    attempt  integer NOT NULL DEFAULT 0,
    worker   text,
    lease    double precision
)""",
    b"CREATE INDEX job_line ON job (queue, priority, run_at, id) WHERE state = 0",
)

INSERT = b"INSERT INTO job (queue, task, state, priority, run_at, args) VALUES (%s, 'noop', 0, 0, %s, %s)"
COPY = b"COPY job (queue, task, state, priority, run_at, args) FROM STDIN"

CLAIM = b"""
UPDATE job SET state = 1, worker = %s, lease = %s, attempt = attempt + 1
WHERE id = ANY(ARRAY(
    SELECT id FROM job WHERE state = 0 AND queue = %s AND run_at <= %s
    ORDER BY priority, run_at, id LIMIT %s FOR UPDATE SKIP LOCKED
))
RETURNING id, task, args
"""
ACK_UPDATE = b"UPDATE job SET state = 2 WHERE id = ANY(%s::bigint[]) AND worker = %s AND state = 1"
ACK_DELETE = b"DELETE FROM job WHERE id = ANY(%s::bigint[]) AND worker = %s AND state = 1"


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def singles(url: str) -> psycopg.Connection[Any]:
    """A connection to an empty table, warm."""
    con = connect(url)
    for statement in SCHEMA:
        con.execute(statement)
    insert_one_by_one(con, 10)
    return con


def insert_one_by_one(con: psycopg.Connection[Any], n: int) -> None:
    """INSERT and commit, for each row."""
    for _ in range(n):
        con.execute(INSERT, (QUEUE, time.time(), ARGS))


def copy_many(url: str, n: int) -> Reading:
    """`n` rows by COPY in one transaction; they stay there for `drain`."""
    with closing(connect(url)) as con:
        for statement in SCHEMA:
            con.execute(statement)
        with Watch() as watch, con.cursor().copy(COPY) as copy:
            for _ in range(n):
                copy.write_row((QUEUE, "noop", 0, 0, time.time(), ARGS))
        con.execute(b"VACUUM (ANALYZE) job")
    return watch.reading(n)


def drain(url: str, n: int, server_cpu: Callable[[], float], *, delete: bool = False, bite: int = BITE) -> Reading:
    """Claims and settles all of them by the hundred."""
    with closing(connect(url)) as con:
        before = server_cpu()
        with Watch() as watch:
            done = _drain(con, ACK_DELETE if delete else ACK_UPDATE, bite)
        worked = server_cpu() - before
        undone, twice = con.execute(
            b"SELECT count(*) FILTER (WHERE state <> 2), count(*) FILTER (WHERE attempt <> 1) FROM job"
        ).fetchone() or (n, n)
    if done != n or undone or twice:
        raise NotExact(
            f"the limit's own loop settled {done} of {n} jobs, {undone} are left, {twice} ran more than once"
        )
    return watch.reading(n).served(worked, n)


def _drain(con: psycopg.Connection[Any], ack: bytes, bite: int) -> int:
    done = 0
    held: list[int] = []
    while True:
        with con.pipeline():
            con.execute(b"BEGIN")
            settled = con.execute(ack, ("{" + ",".join(map(str, held)) + "}", WORKER)) if held else None
            now = time.time()
            claimed = con.execute(CLAIM, (WORKER, now + LEASE, QUEUE, now, bite))
            con.execute(b"COMMIT")
            held = [row[0] for row in claimed.fetchall()]
            done += settled.rowcount if settled is not None else 0
        if not held:
            return done
