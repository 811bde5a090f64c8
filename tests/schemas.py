"""Schemas of one PostgreSQL server for many tests: emptied after one and given to the next.

To set one up takes 50 ms, to empty one takes 2; a new connection costs the server 20. There are more than a thousand tests.
Whoever wants to see how tables are set up names a schema of its own instead.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from tests.servers import Postgres

from piecework.store.postgres.schema import MIGRATIONS
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.transaction import TABLES

LEAVING = 0.2  # seconds in which connections that were closed may disappear from the server
MANY = 2000  # rows; what a test with more has left behind is no place for another's plans

_KEPT = {f"piecework_{table}" for table in TABLES}
_EMPTY = "DO $$ BEGIN " + "".join(f"DELETE FROM {name};" for name in sorted(_KEPT - {"piecework_schema"})) + " END $$"
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> ALL(%s)"


class Schemas:
    """The schemas of a server, by the URL of the store in each; all of them migrated and empty when they are given."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._free: list[str] = []
        self._left: list[str] = []  # which somebody may still be connected to
        self._names = itertools.count(1)
        self._con: psycopg.Connection[Any] | None = None
        self._warm: list[psycopg.Connection[Any]] = []  # of stores that are closed, for the next one

    def take(self) -> str:
        """The URL of a store without a row."""
        if self._free:
            return self._free.pop()
        url = f"{self._server.url}?schema=t_{next(self._names)}"
        store = PostgresStore(url)
        store.migrate()
        store.close()
        return url

    def give_back(self, url: str, spare: Callable[[], list[int]] = list) -> None:
        """Empties a store for the next test; while anybody is connected still, it waits for a later one to be given back.

        Not counted are the server's processes that `spare` tells of: they are connected, and serve nobody.
        """
        con = self._connection()
        self._left.append(url)
        if self._others(con, spare):
            return
        while self._left:
            left = self._left.pop()
            con.execute(f"SET search_path = {left.rpartition('=')[2]}".encode())
            if self._is_as_it_was(con):
                con.execute(_EMPTY.encode())
                self._free.append(left)

    @contextmanager
    def warm(self, store: PostgresStore) -> Iterator[None]:
        """Lends a store the connections that an earlier one had, and keeps those that it has at the end."""
        store.db._free, self._warm = self._warm, []
        yield
        self._warm, store.db._free = store.db._free, []

    def _connection(self) -> psycopg.Connection[Any]:
        if self._con is None:
            self._con = psycopg.connect(self._server.url, autocommit=True)
        return self._con

    def _others(self, con: psycopg.Connection[Any], spare: Callable[[], list[int]]) -> bool:
        """Whether anybody else is connected; whoever has hung up may take a moment to leave."""
        end = time.monotonic() + LEAVING
        ours = [known.info.backend_pid for known in (con, *self._warm)]
        while con.execute(_OTHERS, (ours + spare(),)).fetchone() != (0,):
            if time.monotonic() > end:
                return True
            time.sleep(0.001)
        return False

    def _is_as_it_was(self, con: psycopg.Connection[Any]) -> bool:
        tables = con.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        if {name for (name,) in tables} != _KEPT:
            return False
        versions = con.execute("SELECT version FROM piecework_schema").fetchall()
        rows = con.execute(f"SELECT count(*) FROM (SELECT FROM piecework_job LIMIT {MANY}) AS j".encode()).fetchone()
        return sorted(versions) == [(n,) for n, *_ in MIGRATIONS] and rows is not None and rows[0] < MANY
