"""The server: started here, weighed through /proc, and thrown away; and databases on it that begin empty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from tests.servers import Postgres

from bench import worker
from bench.measure import Store

# More memory and a longer log than the defaults, which are for a machine of another age; all else is as delivered.
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB", "synchronous_commit": "on"}


class Server(Postgres):
    """A durable PostgreSQL, and what its processes have taken."""

    def __init__(self, **settings: str) -> None:
        super().__init__(**{**SETTINGS, **settings})
        self._numbers = itertools.count(1)

    def cpu(self) -> float:
        """CPU seconds so far of the postmaster and of all its processes, those that have ended included."""
        assert self._process is not None
        return worker.cpu_with_ended(self._process.pid)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database; dropped afterwards, with whoever is still connected."""
        name = f"bench{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as con:
            con.execute(f"CREATE DATABASE {name}".encode())
            con.execute(b"CHECKPOINT")  # what was written before is not paid for by who comes next
        try:
            yield f"{self.url.rpartition('/')[0]}/{name}"
        finally:
            with psycopg.connect(self.url, autocommit=True) as con:
                con.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    @contextmanager
    def store(self, options: str = "") -> Iterator[ServerStore]:
        """Piecework's tables in a database of their own."""
        with self.database() as url:
            store = ServerStore(url, options, self.root / "worker.log")
            try:
                yield store
            finally:
                store.close()

    def version(self) -> str:
        with psycopg.connect(self.url) as con:
            return con.info.parameter_status("server_version") or "unknown"


class ServerStore(Store):
    """A store in a database on the server."""

    def __init__(self, url: str, options: str, log: Path) -> None:
        self.database = url
        self._served_by: list[int] = []
        super().__init__(url + options, log)

    def ask(self, text: str) -> Any:
        with psycopg.connect(self.database, autocommit=True) as con:
            con.execute(b"SET search_path = piecework")
            return con.execute(text.encode()).fetchone()

    def served(self) -> float:
        """CPU seconds so far of the server's processes for this program's connections, to the nanosecond."""
        if not self._served_by:
            with psycopg.connect(self.database, autocommit=True) as con:
                rows = con.execute(
                    b"SELECT pid FROM pg_stat_activity "
                    b"WHERE datname = current_database() AND application_name = 'piecework'"
                ).fetchall()
            self._served_by = [row[0] for row in rows]
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 for pid in self._served_by)

    def analyze(self) -> None:
        """What autovacuum does a minute later."""
        with psycopg.connect(self.database, autocommit=True) as con:
            con.execute(b"VACUUM (ANALYZE)")


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    server = Server(**settings)
    try:
        yield server.start()
    finally:
        server.stop()
