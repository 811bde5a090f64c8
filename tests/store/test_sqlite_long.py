"""A call that adds very many jobs to an SQLite file has its one lock for seconds: it says so, and the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from piecework.errors import StoreUnavailable
from piecework.store.sqlite import database, enqueue
from piecework.store.sqlite.store import SqliteStore
from piecework.testing.conformance.kit import a_job, add


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    """One file as two processes have it, each with connections of its own."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(database, "BUSY_TURN", 0.02)
    pair = SqliteStore(f"sqlite:///{tmp_path}/jobs.db"), SqliteStore(f"sqlite:///{tmp_path}/jobs.db")
    for store in pair:
        store.migrate()
    yield pair
    for store in pair:
        store.close()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released each time that somebody who has waited long enough asks whether to wait on, and is told to."""
    looks, is_long = threading.Semaphore(0), database.Database._is_long

    def told(self: database.Database) -> bool:
        if found := is_long(self):
            looks.release()
        return found

    monkeypatch.setattr(database.Database, "_is_long", told)
    return looks


def test_a_transaction_that_has_said_so_is_waited_for(
    stores: tuple[SqliteStore, SqliteStore], looks: threading.Semaphore
) -> None:
    one, other = stores
    with ThreadPoolExecutor(1) as pool:
        with one.db.write(long=True):
            waiting = pool.submit(add, other)
            for _ in range(3):
                assert looks.acquire(timeout=20)
            assert not waiting.done()
        assert other.get([waiting.result(20)])


@pytest.mark.parametrize("long", [False, True])
def test_and_any_other_no_longer_than_before(
    stores: tuple[SqliteStore, SqliteStore], monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """Nor one that has said so, once its time is over."""
    monkeypatch.setattr(database, "LONG_SECONDS", 0.1)
    one, other = stores
    with one.db.write(long=True):
        pass  # its sign is there, and nobody holds it
    with one.db.write(long=long), pytest.raises(StoreUnavailable, match="locked by another process"):
        add(other)
    add(other)


def test_who_adds_very_many_says_so(stores: tuple[SqliteStore, SqliteStore], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = stores
    monkeypatch.setattr(enqueue, "MANY", 3)
    said: list[bool] = []
    really = enqueue.add

    def watched(*args: Any) -> list[str]:
        said.append(other.db._is_long())
        return really(*args)

    monkeypatch.setattr(enqueue, "add", watched)
    for n in (2, 3):
        one.add([a_job() for _ in range(n)])
    assert said == [False, True]
    assert not other.db._is_long()
