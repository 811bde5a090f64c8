"""Waiting on the SQLite shelf: a commit is noticed at once, by ear where the system tells, by the clock elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import opened, until

from piecework.ids import new_id
from piecework.job import NewJob
from piecework.store.sqlite import watch
from piecework.store.sqlite.ear import Ear
from piecework.store.sqlite.store import SqliteStore

LONG = 30.0  # seconds that no wait here takes unless it is broken

inotify = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{path}")
    store.migrate()
    store.wait(0)  # the first call has nothing to compare with
    yield store
    store.close()


@pytest.fixture(params=["ear", "clock"])
def hearing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to notice a commit."""
    if request.param == "clock":
        monkeypatch.setattr(Ear, "on", classmethod(lambda cls, path: None))
    return str(request.param)


class Looks:
    """Counts the looks of a store at its file."""

    def __init__(self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n = 0
        look = store.db._watch._look

        def counted() -> int | None:
            self.n += 1
            return look()

        monkeypatch.setattr(store.db._watch, "_look", counted)


class Waiter:
    """A thread that waits on a store for something new, and what its last wait answered."""

    def __init__(self, store: SqliteStore) -> None:
        self.answer: bool | None = None
        self._store = store
        self._waits = threading.Event()
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        assert self._waits.wait(LONG)

    def _wait(self) -> None:
        settled(self._store)  # a thread's first wait answers at once: it has nothing to compare with
        self._waits.set()
        self.answer = self._store.wait(LONG)

    def ended(self) -> bool:
        self._thread.join(LONG / 2)  # less than the wait itself: a wait that only ran out has noticed nothing
        assert not self._thread.is_alive(), "the wait did not end"
        assert self.answer is not None
        return self.answer


def commit_elsewhere(path: Path) -> None:
    """A commit by another process."""
    code = (
        "import sqlite3, sys; con = sqlite3.connect(sys.argv[1]); con.execute('PRAGMA wal_autocheckpoint = 0'); "
        "con.execute('UPDATE piecework_schema SET applied_at = applied_at + 1'); con.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=LONG)


def settled(store: SqliteStore) -> None:
    """Waits until a store has nothing new to tell this thread."""
    until(lambda: not store.wait(0), "a quiet store")


def test_a_commit_of_another_process_is_noticed(store: SqliteStore, path: Path, hearing: str) -> None:
    waiter = Waiter(store)
    commit_elsewhere(path)
    assert waiter.ended()


def test_a_commit_of_another_connection_in_this_process_is_noticed(
    store: SqliteStore, path: Path, hearing: str
) -> None:
    waiter = Waiter(store)
    with opened(path) as con:
        con.execute("UPDATE piecework_schema SET applied_at = applied_at + 1")
    assert waiter.ended()


def test_a_commit_of_this_very_store_is_noticed(store: SqliteStore, hearing: str) -> None:
    waiter = Waiter(store)
    store.add([NewJob(new_id(), "task", "{}")])
    assert waiter.ended()


def test_a_commit_between_two_waits_is_noticed_by_the_second(store: SqliteStore, path: Path, hearing: str) -> None:
    settled(store)
    commit_elsewhere(path)
    assert store.wait(0)
    assert not store.wait(0)


def test_two_threads_that_wait_both_notice(store: SqliteStore, path: Path, hearing: str) -> None:
    waiters = [Waiter(store), Waiter(store)]
    commit_elsewhere(path)
    assert all(waiter.ended() for waiter in waiters)


def test_a_commit_is_noticed_after_the_log_was_folded_back_and_begun_anew(
    store: SqliteStore, path: Path, hearing: str
) -> None:
    settled(store)
    store.wait(0.01)  # it listens by now
    with opened(path) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert os.stat(f"{path}-wal").st_size == 0
    settled(store)
    waiter = Waiter(store)
    commit_elsewhere(path)
    assert waiter.ended()


def test_a_wait_ends_when_the_store_is_closed(store: SqliteStore, hearing: str) -> None:
    waiter = Waiter(store)
    store.close()
    assert not waiter.ended()


def test_a_store_is_closed_again_and_again_under_one_who_listens(store: SqliteStore, hearing: str) -> None:
    """Each life has an ear and a lock of its own; who still holds those of the last one gives those back."""
    for _ in range(5):
        waiter = Waiter(store)
        store.close()
        waiter.ended()


def test_a_closed_store_listens_again(store: SqliteStore, path: Path, hearing: str) -> None:
    store.wait(0.01)
    store.close()
    store.wait(0)
    waiter = Waiter(store)
    commit_elsewhere(path)
    assert waiter.ended()


@inotify
def test_while_nothing_happens_a_wait_does_not_look(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for listening: a processor that is woken costs more than the look."""
    settled(store)
    store.wait(2 * watch.AFTER_SOUND)  # what was written at the start has been heard
    looks = Looks(store, monkeypatch)
    assert not store.wait(0.5)
    by_ear = looks.n
    monkeypatch.setattr(Ear, "on", classmethod(lambda cls, path: None))
    store.db._watch._ear, looks.n = None, 0
    assert not store.wait(0.5)
    assert by_ear <= 3
    assert looks.n > 10


@inotify
def test_a_store_whose_file_system_does_not_tell_goes_back_to_the_clock(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    on = Ear.on
    monkeypatch.setattr(Ear, "on", classmethod(lambda cls, path: on(str(elsewhere))))  # an ear that hears nothing
    monkeypatch.setattr(watch, "DEAF_SECONDS", 0.0)
    settled(store)
    store.wait(0.01)
    assert store.db._watch._ear is not None
    commit_elsewhere(path)
    assert store.wait(0)  # a look tells
    assert store.db._watch._ear is None
    waiter = Waiter(store)
    commit_elsewhere(path)
    assert waiter.ended()


@inotify
def test_an_ear_that_hears_is_kept(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "DEAF_SECONDS", 0.0)
    settled(store)
    store.wait(0.01)
    ear = store.db._watch._ear
    for _ in range(3):
        commit_elsewhere(path)
        assert store.wait(LONG)
    assert ear is not None
    assert store.db._watch._ear is ear


@inotify
def test_a_child_of_a_fork_listens_for_itself(store: SqliteStore, path: Path) -> None:
    """What the parent's ear hears must not be taken away by a child."""
    settled(store)
    store.wait(0.01)
    waiter = Waiter(store)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            settled(store)
            store.wait(0.01)
            os.write(told, b"!")
            os._exit(0 if store.wait(LONG) else 1)
        except BaseException:
            os._exit(2)
    assert os.read(ready, 1) == b"!"
    commit_elsewhere(path)
    assert waiter.ended()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    os.close(ready)
    os.close(told)


@inotify
def test_there_is_no_ear_without_a_file(tmp_path: Path) -> None:
    assert Ear.on(str(tmp_path / "nothing")) is None


@inotify
def test_an_ear_leaves_no_file_open_behind(path: Path, store: SqliteStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ear = Ear.on(str(path))
        assert ear is not None
        del ear
        assert Ear.on(str(path) + "-nothing") is None
    assert len(os.listdir("/proc/self/fd")) == before
