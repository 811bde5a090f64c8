"""A store on SQLite that is closed begins a new life, with locks of its own: who waited for the old ones takes the new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework.store.sqlite.store import SqliteStore
from piecework.testing.conformance.kit import add


class Reached:
    """A lock that tells when somebody is about to wait for it."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.reached = threading.Event()

    def acquire(self) -> bool:
        self.reached.set()
        return bool(self._lock.acquire())

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *of: object) -> None:
        self.release()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path}/jobs.db")
    store.migrate()
    yield store
    store.close()


def fork(store: SqliteStore) -> None:
    """What a fork does before and after it, in the parent."""
    store.db.hold()
    store.db.let_go()


@pytest.mark.parametrize("work", [fork, add], ids=lambda work: work.__name__)
def test_who_waits_while_the_store_is_closed_holds_the_lock_of_the_new_life(
    store: SqliteStore, work: Callable[[SqliteStore], object]
) -> None:
    raised: list[BaseException] = []

    def works() -> None:
        try:
            work(store)
        except BaseException as error:
            raised.append(error)

    old = store.db._lock
    with old:
        store.db._lock = lock = Reached(old)
        waiting = threading.Thread(target=works)
        waiting.start()
        assert lock.reached.wait(20)
        store.close()
        new = store.db._lock
    waiting.join(20)
    assert raised == []
    assert store.db._lock is new
    assert new.acquire(blocking=False), "it is still held"
    new.release()
    assert store.get([add(store)])
