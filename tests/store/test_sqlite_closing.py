"""A store that is closed while others use it: its connections go when nobody is inside of them, and never before."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support import until

from piecework.store.sqlite.store import SqliteStore


class Door:
    """A lock that counts those who have come to it."""

    def __init__(self) -> None:
        self.came = 0
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.came += 1
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/jobs.db")
    store.migrate()
    yield store
    store.close()


def test_no_close_meets_the_write_of_one_who_had_waited_for_another_close(store: SqliteStore) -> None:
    door, inside, go_on = Door(), threading.Event(), threading.Event()
    store.db._lock = door  # type: ignore[assignment]

    def write() -> int:
        with store.db.write() as con:
            inside.set()
            assert go_on.wait(20)
            return int(con.execute("SELECT count(*) FROM piecework_job").fetchone()[0])

    with ThreadPoolExecutor(3) as pool:
        with store.db.write():
            closing = pool.submit(store.close)
            until(lambda: door.came == 2)
            writing = pool.submit(write)
            until(lambda: door.came == 3)
        assert inside.wait(20)
        again = pool.submit(store.close)
        until(lambda: door.came == 4 or again.done())
        assert not again.done()
        go_on.set()
        assert writing.result(20) == 0
        closing.result(20)
        again.result(20)


def test_a_connection_that_is_read_with_does_not_outlive_the_life_that_it_is_of(store: SqliteStore) -> None:
    with store.db.read() as con:
        store.close()
        assert con.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(sqlite3.ProgrammingError):
        con.execute("SELECT 1")
