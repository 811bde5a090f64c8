"""What several rings of tests share: waiting for a condition, and asking a store's file whether its books are in order."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from tests import redis_books

T = TypeVar("T")

STEP = 0.005  # seconds between two looks at a condition


def until(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "the condition",
    *,
    within: float = 15.0,
    every: float = STEP,
) -> T:
    """Looks until a condition is true, and returns what it said; fails loudly when the time is over."""
    end = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"after {within:g} s still not: {said}")
        time.sleep(every)


def narrow(connection: Any) -> None:
    """Lets the network take little at once of what is sent on a connection."""
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


class Postgres:
    """A connection to a store on PostgreSQL that takes the same statements as one to a file."""

    def __init__(self, url: str) -> None:
        server, _, schema = url.partition("?schema=")
        self._con = psycopg.connect(server, autocommit=True, options=f"-c search_path={schema}")

    def execute(self, sql: str, params: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        return self._con.execute(sql.replace("?", "%s").encode(), params or None)

    def close(self) -> None:
        self._con.close()


@contextmanager
def opened(place: Path | str) -> Iterator[Any]:
    """A connection of the test's own to a store: to its file, or by its URL. On a file it never folds back the log."""
    if isinstance(place, str):
        with closing(Postgres(place)) as con:
            yield con
        return
    with closing(sqlite3.connect(place, timeout=10.0, isolation_level=None)) as con:
        con.execute("PRAGMA wal_autocheckpoint = 0")
        yield con


def is_redis(place: Path | str) -> bool:
    """Whether a store is one to which no statement can be sent."""
    return isinstance(place, str) and place.startswith(("redis", "valkey"))


def alter(place: Path | str, *ids: str, **fields: Any) -> None:
    """Changes fields of jobs behind the store's back, where time would have to pass otherwise, or a machine to die."""
    if is_redis(place):
        assert isinstance(place, str)
        redis_books.alter(place, ids, **fields)
        return
    with opened(place) as con:
        changes = ", ".join(f"{name} = ?" for name in fields)
        for id in ids:
            con.execute(f"UPDATE piecework_job SET {changes} WHERE id = ?", (*fields.values(), id))


def make_newer(place: Path | str, by: int = 9999) -> None:
    """Makes a store look like one of a version so many later; taken back by the same number below zero."""
    if is_redis(place):
        assert isinstance(place, str)
        redis_books.make_newer(place, by)
        return
    with opened(place) as con:
        (version,) = con.execute("SELECT max(version) FROM piecework_schema").fetchone()
        if by > 0:
            con.execute(f"INSERT INTO piecework_schema VALUES ({version + by}, 'from the future', 0)")
        else:
            con.execute(f"DELETE FROM piecework_schema WHERE version = {version}")


def books(place: Path | str) -> list[str]:
    """Everything that is not in order in a store, one sentence each: file, counters, batches, leases."""
    if is_redis(place):
        assert isinstance(place, str)
        return redis_books.books(place)
    with opened(place) as con:
        wrong = []
        if isinstance(place, Path):
            wrong += [f"integrity: {line}" for (line,) in con.execute("PRAGMA integrity_check") if line != "ok"]
        wrong += _tally(con)
        wrong += _batches(con)
        wrong += [
            f"{id} is running on {worker}, which has no session"
            for id, worker in con.execute(
                "SELECT id, worker FROM piecework_job WHERE state = 'running' "
                "AND NOT EXISTS (SELECT 1 FROM piecework_session AS s WHERE worker LIKE s.id || '.%')"
            )
        ]
    return wrong


def _tally(con: Any) -> list[str]:
    summed = "SELECT queue, state, sum(n) FROM piecework_tally GROUP BY queue, state HAVING sum(n) <> 0"
    kept = {row[:2]: row[2] for row in con.execute(summed)}
    true = {
        row[:2]: row[2] for row in con.execute("SELECT queue, state, count(*) FROM piecework_job GROUP BY queue, state")
    }
    return [] if kept == true else [f"the counters say {kept}, the rows {true}"]


def _batches(con: Any) -> list[str]:
    wrong = []
    counters = con.execute("SELECT id, total, open, completed, failed, cancelled FROM piecework_batch").fetchall()
    for id, *kept in counters:
        rows = con.execute(
            "SELECT count(*), count(*) FILTER (WHERE finished_at IS NULL), count(*) FILTER (WHERE state = 'completed'), "
            "count(*) FILTER (WHERE state IN ('failed', 'parked') AND finished_at IS NOT NULL), "
            "count(*) FILTER (WHERE state = 'cancelled') FROM piecework_job WHERE batch = ?",
            (id,),
        ).fetchone()
        if tuple(kept) != tuple(rows):
            wrong.append(f"batch {id}: the counters say {tuple(kept)}, the pieces {tuple(rows)}")
    return wrong


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Holds the write lock of a store's file."""
    with opened(path) as con:
        con.execute("BEGIN IMMEDIATE")
        yield
        con.execute("ROLLBACK")
