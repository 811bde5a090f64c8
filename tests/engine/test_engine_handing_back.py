"""What a worker hands back is available at once and unspent; and what was cancelled does not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from support import alter, books, until

from piecework import Cancel, Job, Piecework, current
from piecework.engine.lookout import POLL_SECONDS
from piecework.engine.worker import Stopping, Worker
from piecework.job import SUSPECT, SessionRecord
from piecework.store.protocol import Store
from piecework.testing import FrozenClock
from piecework.testing.drain import drain

LEASE = 20.0


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def app(store_url: str, clock: FrozenClock) -> Iterator[Piecework]:
    """On a clock that only the test moves."""
    app = Piecework(store_url, clock=clock)
    app.store.migrate()
    app.store.enlist(SessionRecord(id="s", beat=0, started_at=0.0, seen_at=0.0, name="", host="", pid=1))
    yield app
    app.close()


@contextmanager
def at_work(worker: Worker) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop(Stopping.NOW)
        thread.join(timeout=20)
    assert not thread.is_alive()


def spent(job: Job[Any]) -> tuple[str, int, int, int]:
    """Its state, and how many runs, attempts and crashes it counts."""
    record = job.record()
    return str(record.state), record.run, record.attempt, record.crashes


def test_a_suspect_that_waits_is_handed_back_as_soon_as_its_worker_drains(
    app: Piecework, clock: FrozenClock, path: Path
) -> None:
    """It waits to run alone, behind a job that may take long; another worker can have it at once."""
    begun, gate = threading.Event(), threading.Event()
    ran: list[str] = []

    @app.task(name="long")
    def long() -> None:
        begun.set()
        gate.wait(20)

    @app.task(name="suspect")
    def suspect() -> None:
        ran.append(current.id)

    first, second = long.later(), suspect.later()
    alter(path, second.id, crashes=SUSPECT)
    worker = Worker(app.registry, app.store, clock, name="s.1", concurrency=2)
    with at_work(worker) as thread:
        try:
            until(lambda: begun.is_set() and len(worker.running()) == 2, "both are in hand")
            worker.stop()
            until(lambda: second.state == "available", lambda: str(second.record()))
            assert first.state == "running"
            assert spent(second) == ("available", 1, 0, SUSPECT)
        finally:
            gate.set()
        thread.join(timeout=20)
    assert first.state == "completed"
    assert ran == []
    assert books(path) == []


def test_a_job_that_held_a_process_once_runs_alone_from_then_on(app: Piecework, clock: FrozenClock, path: Path) -> None:
    """Others with one crash run at once, also one that is named but was brought back with its counts at zero."""
    gate = threading.Event()
    ran: list[str] = []

    @app.task(name="long")
    def long() -> None:
        gate.wait(20)
        ran.append("long")

    @app.task(name="short")
    def short(name: str) -> None:
        ran.append(name)

    long.later()
    held, other, forgiven = (short.later(name) for name in ("held", "other", "forgiven"))
    alter(path, held.id, other.id, crashes=1)
    worker = Worker(app.registry, app.store, clock, name="s.1", concurrency=4)
    worker.run_alone([held.id, forgiven.id])
    with at_work(worker):
        try:
            until(lambda: other.state == forgiven.state == "completed", lambda: f"they run at once: {ran}")
            assert sorted(ran) == ["forgiven", "other"]
            assert spent(held) == ("running", 1, 0, 1)
        finally:
            gate.set()
        until(lambda: held.state == "completed", lambda: str(held.record()))
    assert ran[2:] == ["long", "held"]
    assert books(path) == []


class SlowOnce:
    """A store whose first answer with jobs comes after their lease."""

    def __init__(self, store: Store, clock: FrozenClock) -> None:
        self._store = store
        self._clock = clock
        self._late = False

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    def exchange(self, *args: Any) -> Any:
        answers, jobs = self._store.exchange(*args)
        if jobs and not self._late:
            self._late = True
            self._clock.advance(LEASE + 1)
        return answers, jobs


def test_what_is_released_has_spent_no_attempt(app: Piecework, clock: FrozenClock, path: Path) -> None:
    """It came too late to be begun. With a single attempt, one that was spent would be the last."""
    ran: list[int] = []

    @app.task(name="once", attempts=1)
    def once() -> None:
        ran.append(1)

    job = once.later()
    worker = Worker(app.registry, cast(Store, SlowOnce(app.store, clock)), clock, name="s.1", lease=LEASE)
    worker.beaten(clock.monotonic())
    with at_work(worker):
        until(lambda: spent(job)[:2] == ("available", 1), lambda: str(job.record()))
        assert spent(job) == ("available", 1, 0, 0)
        assert ran == []
        worker.beaten(clock.monotonic())
        clock.advance(POLL_SECONDS)
        until(lambda: job.state.finished, lambda: str(job.record()))
    assert spent(job) == ("completed", 2, 1, 0)
    assert ran == [1]
    assert books(path) == []


def by_its_own_word(job: Job[Any]) -> Cancel:
    return Cancel("nobody needs it")


def by_somebody(job: Job[Any]) -> None:
    assert job.cancel("nobody needs it")
    until(lambda: current.cancelled, "it has heard so")
    current.check()


@pytest.mark.parametrize("cancel", [by_its_own_word, by_somebody])
def test_a_run_that_was_cancelled_does_not_come_back(
    store_url: str, path: Path | str, cancel: Callable[[Job[Any]], Cancel | None]
) -> None:
    app = Piecework(store_url)
    ran: list[int] = []

    @app.task(name="thrice", attempts=3, retry=0)
    def thrice() -> Cancel | None:
        ran.append(1)
        return cancel(job) if len(ran) == 1 else None

    job = thrice.later()
    assert drain(app) == 1
    assert spent(job) == ("cancelled", 1, 0, 0)
    assert job.record().reason == "nobody needs it"
    assert drain(app) == 0
    assert ran == [1]
    app.close()
    assert books(path) == []
