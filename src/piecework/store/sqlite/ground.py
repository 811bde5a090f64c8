"""What every verb on the SQLite shelf stands on: the file, its schema at first use, and the two kinds of transaction."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote

from piecework.clock import Clock
from piecework.errors import BadSettings
from piecework.job import NewJob
from piecework.store.sql.parting import PartsOnRows
from piecework.store.sqlite import schema
from piecework.store.sqlite.database import Database
from piecework.store.sqlite.transaction import Transaction
from piecework.store.urls import read_url

T = TypeVar("T")


class Ground:
    """One SQLite file. `parts` has the verbs of distributed jobs, which need nothing else of the shelf."""

    def __init__(self, url: str, clock: Clock, synchronous: str = "FULL") -> None:
        path, synchronous = parse(url, synchronous)
        self.url = url
        self.clock = clock
        self.db = Database(path, synchronous=synchronous)
        self._ready_for: int | None = None
        self.parts = PartsOnRows(read=self._read, write=self._write, add=_add)

    def _set_up(self) -> None:
        """A new file gets its schema at first use; an old one has to be migrated by hand."""
        if self._ready_for != os.getpid():
            schema.ensure(self.db, self.clock.now())
            if self._ready_for is not None:  # a forked child, whose parent's threads may have been in the middle of one
                self._begin_walks()
            self._ready_for = os.getpid()

    def _begin_walks(self) -> None:
        """What walks through the tables begins at their start."""

    def _write(self, body: Callable[[Transaction], T], *, long: bool = False) -> T:
        self._set_up()
        with self.db.write(long=long) as con:
            tx = Transaction(con, self.clock.now())
            answer = body(tx)
            tx.finish()
        return answer

    def _read(self, body: Callable[[Transaction], T]) -> T:
        self._set_up()
        with self.db.read() as con:
            return body(Transaction(con, self.clock.now()))

    def close(self) -> None:
        self.db.close()
        self._ready_for = None


def _add(tx: Transaction, jobs: list[NewJob]) -> None:
    """Stores follow-ups. Few calls have one, and who only says that a part is done need not load how jobs are added."""
    from piecework.store.sqlite import enqueue

    enqueue.add(tx, jobs, None, None)


def parse(url: str, synchronous: str) -> tuple[str, str]:
    """The path and the `synchronous` setting that a URL names."""
    parts, options = read_url(url)
    synchronous = options.pop("synchronous", synchronous).upper()
    if synchronous not in ("FULL", "NORMAL", "EXTRA"):
        raise BadSettings(f"the store's URL says synchronous={synchronous.lower()}; it can be full, normal or extra")
    if options:
        raise BadSettings(f"the store's URL has an option that SQLite does not know: {', '.join(sorted(options))}")
    if parts.netloc == ":memory:":
        return ":memory:", synchronous
    path = unquote(parts.path)
    if "\0" in path:
        raise BadSettings(f"the store's URL {url!r} has a NUL in its path")
    if parts.netloc or len(path) < 2 or not url.startswith("sqlite:///"):
        raise BadSettings(
            f"{url!r} names no file: write sqlite:///jobs.db for a relative path, sqlite:////srv/jobs.db for an absolute one"
        )
    return path[1:], synchronous
