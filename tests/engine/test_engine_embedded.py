"""A worker inside the caller's process: entered, left, entered again, forked, failing, forgotten."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import books, opened, until

from piecework import Piecework
from piecework.engine.worker import Worker
from piecework.errors import BadOption, StoreError, StoreUnavailable, UsageError
from piecework.job import State


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here is the worker's own, whatever the store


@pytest.fixture
def double(app: Piecework) -> Any:
    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    return double


class Gate:
    """A task that runs until it is let go."""

    def __init__(self, app: Piecework) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

        @app.task(name="gate")
        def gate() -> str:
            self.begun.set()
            assert self.open.wait(30)
            return "through"

        self.task: Any = gate


@pytest.fixture
def gate(app: Piecework) -> Iterator[Gate]:
    gate = Gate(app)
    yield gate
    gate.open.set()


# ── entering and leaving ─────────────────────────────────────────────────────────────────────────


def test_a_worker_may_be_entered_again_after_it_was_left(app: Piecework, double: Any, path: Path) -> None:
    worker = app.worker(concurrency=2)
    for n in range(3):
        with worker:
            assert double.later(n).result(timeout=10) == 2 * n
        assert app.store.sessions() == []
    assert books(path) == []


def test_a_worker_that_runs_is_not_entered_again(app: Piecework, double: Any) -> None:
    worker = app.worker(concurrency=1)
    with worker:
        with pytest.raises(UsageError, match="runs already"):
            worker.__enter__()
        with pytest.raises(UsageError, match="runs already"):
            worker.run()
        assert double.later(1).result(timeout=10) == 2
        assert len(app.store.sessions()) == 1


def test_two_workers_of_one_app_at_a_time(app: Piecework, gate: Gate) -> None:
    with app.worker(concurrency=1, name="one"), app.worker(concurrency=1, name="two"):
        assert sorted(session.name for session in app.store.sessions()) == ["one", "two"]
        jobs = [gate.task.later() for _ in range(2)]
        until(lambda: app.jobs.where(state="running").count() == 2, "each took one")
        assert len({job.record().worker for job in jobs}) == 2
        gate.open.set()
        assert [job.result(timeout=10) for job in jobs] == ["through"] * 2


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[2J", "x" * 101, 7, None])
def test_a_name_that_nobody_could_read_is_refused(app: Piecework, name: Any) -> None:
    with pytest.raises(BadOption, match="name"):
        app.worker(name=name)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", None])
def test_a_shutdown_timeout_that_is_no_time_is_refused(app: Piecework, seconds: Any) -> None:
    with pytest.raises(BadOption, match="shutdown_timeout"):
        app.worker(shutdown_timeout=seconds)


def test_an_exception_in_the_block_passes_and_what_runs_is_finished(app: Piecework, gate: Gate) -> None:
    job = gate.task.later()

    def block() -> None:
        with app.worker(concurrency=1):
            assert gate.begun.wait(10)
            threading.Timer(0.05, gate.open.set).start()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        block()
    assert job.state is State.COMPLETED
    assert app.store.sessions() == []


def test_a_job_that_does_not_end_is_handed_back_unspent(
    app: Piecework, gate: Gate, double: Any, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    job = gate.task.later()
    with caplog.at_level(logging.WARNING, "piecework"), app.worker(concurrency=1, shutdown_timeout=0.05):
        assert gate.begun.wait(10)
    record = job.record()
    assert (record.state, record.attempt, record.run) == (State.AVAILABLE, 0, 1)
    assert [line.outcome for line in job.attempts()] == ["released"]
    (said,) = [line.getMessage() for line in caplog.records if "handed back" in line.getMessage()]
    assert job.id in said
    assert "0.05 s" in said
    gate.open.set()  # the thread of the first run goes on; what it comes to is nobody's any more
    with app.worker(concurrency=1):
        assert job.result(timeout=10) == "through"
    assert job.record().run == 2
    assert books(path) == []


def test_a_store_that_cannot_be_used_is_told_on_entering(tmp_path: Path) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/no/such/folder/jobs.db")
    worker = app.worker()
    for _ in range(2):  # what failed to begin does not count as running
        with pytest.raises(StoreError, match="folder .* does not exist"):
            worker.__enter__()


def test_leaving_while_the_store_is_away_leaves_the_session_to_others(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("the store is away")

    with app.worker(concurrency=1, shutdown_timeout=0.1):
        assert double.later(1).result(timeout=10) == 2
        monkeypatch.setattr(app.store, "bury", away)
    assert "others will notice" in caplog.text
    assert len(app.store.sessions()) == 1


# ── awaited ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_worker_is_entered_and_left_without_blocking_the_loop(app: Piecework, gate: Gate) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1
            if ticks == 40:
                gate.open.set()

    ticking = asyncio.ensure_future(tick())
    async with app.worker(concurrency=1):
        job = await gate.task.alater()
        while not gate.begun.is_set():
            await asyncio.sleep(0.005)
    # Leaving waited for the job, which waited for the loop to go on.
    assert ticks >= 40
    assert job.state is State.COMPLETED
    ticking.cancel()


async def test_results_are_awaited_inside(app: Piecework, double: Any) -> None:
    async with app.worker(concurrency=2):
        jobs = [await double.alater(n) for n in range(5)]
        assert [await job.aresult(timeout=10) for job in jobs] == [0, 2, 4, 6, 8]
    assert app.store.sessions() == []


async def test_an_async_block_that_is_cancelled_leaves_the_worker(app: Piecework, double: Any) -> None:
    entered = asyncio.Event()

    async def serve() -> None:
        async with app.worker(concurrency=1):
            entered.set()
            await asyncio.Event().wait()

    serving = asyncio.ensure_future(serve())
    await entered.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert app.store.sessions() == []


async def test_entering_that_is_cancelled_leaves_nothing_running(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enlist, begun, go = app.store.enlist, threading.Event(), threading.Event()

    def slow(session: Any) -> None:
        begun.set()
        assert go.wait(10)
        enlist(session)
        begun.clear()

    monkeypatch.setattr(app.store, "enlist", slow)
    entering = asyncio.ensure_future(app.worker(concurrency=1).__aenter__())
    while not begun.is_set():
        await asyncio.sleep(0.005)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    go.set()
    while begun.is_set() or app.store.sessions():
        await asyncio.sleep(0.005)


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


def test_a_loop_that_fails_is_logged_and_begins_anew(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    turn, failures = Worker._turn, iter(range(3))

    def broken(self: Worker) -> None:
        turn(self)
        if self.settled and next(failures, None) is not None:
            raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(Worker, "_turn", broken)
    with app.worker(concurrency=2):
        for n in range(6):
            assert double.later(n).result(timeout=15) == 2 * n
        assert len(app.store.sessions()) == 1
    assert caplog.text.count("ZeroDivisionError: a bug of ours") == 3
    assert books(path) == []


def test_a_beat_that_fails_is_logged_and_tried_again(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renew, failures = app.store.renew, iter(range(1))

    def broken(*args: Any, **kwargs: Any) -> bool:
        if next(failures, None) is not None:
            raise ZeroDivisionError("a bug of ours")
        return renew(*args, **kwargs)

    monkeypatch.setattr(app.store, "renew", broken)
    app.settings = msgspec.structs.replace(app.settings, lease=1.0)
    with app.worker(concurrency=1):
        until(lambda: app.store.sessions()[0].beat >= 2, "it beats again")
    assert "ZeroDivisionError: a bug of ours" in caplog.text


def test_a_session_that_was_buried_is_begun_anew_when_the_store_is_back(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may go away in between: a worker that could not enlist again at once must not be dead for ever."""
    enlist, failures = app.store.enlist, iter(range(3))

    def away(session: Any) -> None:
        if next(failures, None) is not None:
            raise StoreUnavailable("the store is away")
        enlist(session)

    with app.worker(concurrency=1):
        monkeypatch.setattr(app.store, "enlist", away)
        (first,) = app.store.sessions()
        app.store.bury(first.id)
        assert double.later(2).result(timeout=15) == 4
        (second,) = app.store.sessions()
        assert second.id != first.id


def test_the_session_tells_when_the_worker_looked(app: Piecework, gate: Gate) -> None:
    """About the life of the loop, not about jobs: a worker whose one thread is busy goes on looking."""
    gate.task.later()
    with app.worker(concurrency=1):
        assert gate.begun.wait(10)
        first = until(lambda: app.store.sessions()[0].polled_at, "it has told")
        until(lambda: (app.store.sessions()[0].polled_at or 0.0) > first + 1.0, "it goes on telling")
        gate.open.set()


# ── processes ────────────────────────────────────────────────────────────────────────────────────

FORKED = """
import os, sys
from piecework import Piecework

app = Piecework(sys.argv[1])

@app.task(name="pid")
def pid() -> int:
    return os.getpid()

def serve():
    with app.worker(concurrency=2, name="child"):
        assert pid.later().result(timeout=20) == os.getpid()
"""

PRELOAD = """
assert pid.later().id  # the parent has used its connections
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        with app.worker(queues=["default"], concurrency=2, name="child"):
            job = pid.later()
            assert job.result(timeout=20)
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
print(app.jobs.where(state="completed").count(), app.store.sessions())
"""

INSIDE = """
with app.worker(concurrency=1, name="parent") as worker:
    assert pid.later().result(timeout=20) == os.getpid()
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [session.name for session in app.store.sessions()] == ["parent"]
        assert pid.later().result(timeout=20) == os.getpid()
    else:
        worker.stop()  # it is the parent's: nothing happens
if not child:
    sys.stdout.flush()
    os._exit(0)
print(app.store.sessions())
"""

FORGOTTEN = """
import threading, time, atexit
begun = threading.Event()

@app.task(name="long")
def long() -> None:
    begun.set()
    threading.Event().wait()

worker = app.worker(concurrency=1).__enter__()
long.later()
assert begun.wait(20)
print("the end")
"""


def run(source: str, url: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # Newer Pythons warn of every fork beside threads, which is what is tried here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED + source, url],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        **options,
    )


def test_an_app_that_was_made_before_a_fork_works_in_the_children(path: Path, store_url: str) -> None:
    """As under a web server that loads the application first and forks its workers afterwards."""
    done = run(PRELOAD, store_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[0, 0]", "3 []"]
    assert books(path) == []


def test_a_child_that_is_forked_inside_the_block_leaves_the_parents_worker_alone(path: Path, store_url: str) -> None:
    done = run(INSIDE, store_url)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")
    assert books(path) == []


def test_a_worker_that_nobody_leaves_does_not_hold_up_the_end_of_the_process(path: Path, store_url: str) -> None:
    """What ran is handed back at once, not after a lease."""
    done = run(FORGOTTEN, store_url)
    assert done.returncode == 0
    assert done.stdout == "the end\n"
    with opened(path) as con:
        assert con.execute("SELECT state, attempt FROM piecework_job").fetchall() == [("available", 0)]
        assert con.execute("SELECT count(*) FROM piecework_session").fetchone() == (0,)


def test_signals_are_the_programs_own(app: Piecework, double: Any) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with app.worker(concurrency=1):
        assert {number: signal.getsignal(number) for number in before} == before
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_worker_is_entered_on_another_thread_than_the_main_one(app: Piecework, double: Any) -> None:
    found = []

    def serve() -> None:
        with app.worker(concurrency=1):
            found.append(double.later(4).result(timeout=10))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(20)
    assert found == [8]
