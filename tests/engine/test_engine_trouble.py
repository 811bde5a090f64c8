"""The store goes away, refuses, or is written by others: every loop heals itself and says so once."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import alter, books, locked_file, until

import piecework
from piecework import Piecework, failpoints
from piecework.errors import StoreUnavailable
from piecework.job import Fence, State
from piecework.outcome import Settlement
from piecework.testing.drain import drain

AWAY, BACK = "the store is not available, trying again until it is", "the store is available again"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints._armed.clear()


@pytest.fixture
def double(app: Piecework) -> Any:
    @app.task(name="double", retry=0)
    def double(n: int) -> int:
        return 2 * n

    return double


def said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


VERBS = ["exchange", "fetch", "report", "renew", "sessions", "wait", "next_due"]


class Outage:
    """Makes verbs of a store raise for as long as it lasts, and counts how often they were called meanwhile."""

    def __init__(self, app: Piecework, monkeypatch: pytest.MonkeyPatch, verbs: list[str]) -> None:
        self.on = threading.Event()
        self.calls = 0
        self._door = threading.Lock()
        self._inside = 0  # calls that have come through
        for verb in verbs:
            monkeypatch.setattr(app.store, verb, self._away(getattr(app.store, verb)))

    def begin(self) -> None:
        """From here on nothing comes through: what had begun before has ended."""
        with self._door:
            self.on.set()
        until(lambda: self._inside == 0, "what came through has ended")

    def _away(self, real: Any) -> Any:
        def verb(*args: Any, **kwargs: Any) -> Any:
            with self._door:
                if self.on.is_set():
                    self.calls += 1
                    raise StoreUnavailable("unplugged")
                self._inside += 1
            try:
                return real(*args, **kwargs)
            finally:
                with self._door:
                    self._inside -= 1

        return verb


def test_the_worker_goes_on_after_the_store_was_away_and_tells_it_once_at_each_end(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    caplog.set_level(logging.INFO, "piecework")
    outage = Outage(app, monkeypatch, ["exchange"])
    with app.worker(concurrency=2):
        assert double.later(1).result(timeout=30) == 2
        outage.begin()
        job = double.later(2)
        until(lambda: outage.calls >= 4, "four vain tries")
        assert job.state == "available"
        outage.on.clear()
        assert job.result(timeout=30) == 4
    assert (said(caplog, AWAY), said(caplog, BACK)) == (1, 1)
    assert [r.levelname for r in caplog.records if AWAY in r.getMessage()] == ["WARNING"]
    assert books(path) == []


def test_what_ended_while_the_store_was_away_is_settled_afterwards_and_not_run_again(
    app: Piecework, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    gate, runs = threading.Event(), []

    @app.task(name="held")
    def held() -> str:
        runs.append(1)
        gate.wait(60)
        return "kept"

    outage = Outage(app, monkeypatch, ["exchange"])
    with app.worker(concurrency=1):
        job = held.later()
        until(lambda: runs, "it runs")
        outage.begin()
        gate.set()
        until(lambda: outage.calls >= 3, "three vain tries")
        outage.on.clear()
        assert job.result(timeout=30) == "kept"
    assert (len(runs), job.record().run) == (1, 1)
    assert books(path) == []


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_that_fails_for_a_while_ends_the_worker(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, verb: str, path: Path
) -> None:
    """Whichever verb meets the outage: when it is over the worker takes jobs, and no thread has died of it."""
    gate = threading.Event()
    patience = 30.0

    @app.task(name="held")
    def held() -> None:
        gate.wait(60)

    outage = Outage(app, monkeypatch, [verb])
    app.settings = app.settings.__class__(url=app.settings.url, lease=1.0)  # beats every quarter of a second
    with app.worker(concurrency=2):
        until(lambda: len(app.store.sessions()) == 1, "it is enlisted")
        blocked = held.later()
        until(lambda: blocked.state == "running", "one runs")
        outage.begin()
        job = double.later(4)
        # Some verbs are not called at all in this time; then there is nothing to survive.
        began = time.monotonic()
        until(lambda: outage.calls >= 2 or time.monotonic() - began > 2.0)
        outage.on.clear()
        assert job.result(timeout=patience) == 8
        gate.set()
        blocked.result(timeout=patience)
        assert double.later(5).result(timeout=patience) == 10
    assert books(path) == []


@pytest.mark.parametrize("passage", [1, 2, 3, 5])
@pytest.mark.parametrize("point", ["store.before_commit", "store.after_commit"])
def test_a_commit_that_breaks_off_before_or_after_it_took_effect_is_sent_again(
    app: Piecework, double: Any, point: str, passage: int, path: Path
) -> None:
    """After the commit the worker cannot know that it took effect: the second answer is `already`."""
    break_off(app, double, point, passage, path)


@pytest.mark.parametrize("passage", [1, 2, 3, 5])
@pytest.mark.parametrize("shelf", ["sqlite", "postgres"])  # where a transaction is several statements
def test_a_transaction_that_breaks_off_in_the_middle_is_sent_again(
    app: Piecework, double: Any, passage: int, path: Path
) -> None:
    break_off(app, double, "settle.in_transaction", passage, path)


def break_off(app: Piecework, double: Any, point: str, passage: int, path: Path) -> None:
    """Twenty-five jobs run once each, although the store fails at one passage of a point."""
    runs: list[int] = []

    @app.task(name="noted")
    def noted(n: int) -> int:
        runs.append(n)
        return n

    jobs = noted.later_many([(n,) for n in range(20)])
    with app.worker(concurrency=2):
        double.later(1).result(timeout=30)
        failpoints.arm(f"{point}=raise:{passage}")
        more = []
        for n in range(20, 25):
            job = until(lambda n=n: _patiently(noted, n), "it is stored")  # type: ignore[misc]
            more.append(job)
            assert job.result(timeout=30) == n
        assert failpoints._armed[point].left <= 0, "the point was not passed"
    assert sorted(runs[:20]) == list(range(20))
    assert {job.state for job in jobs + more} == {"completed"}
    assert {job.record().run for job in jobs + more} == {1}
    assert books(path) == []


def _patiently(task: Any, n: int) -> Any:
    """Enqueues in this process, where the failpoint may strike, too."""
    try:
        return task.using(key=f"n {n}").later(n)
    except StoreUnavailable:
        return None


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("point", ["worker.before_exchange", "worker.after_exchange", "worker.after_fetch"])
def test_a_worker_whose_trip_breaks_off_at_this_point_goes_on(app: Piecework, double: Any, point: str) -> None:
    """An embedded worker has no supervisor that would start another, and its beat would keep its jobs for ever."""
    failpoints.arm(f"{point}=raise:1")
    with app.worker(concurrency=2):
        assert double.later(3).result(timeout=4) == 6


@pytest.mark.parametrize("verb", ["add", "batch", "pieces"])
def test_a_split_that_meets_an_outage_in_a_call_of_its_own_spends_no_attempt(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, verb: str, path: Path
) -> None:
    """Storing a bite and reading the pieces are piecework's own work, not the body's: it has to wait for the store."""

    @app.split(name="t", attempts=1)
    def split(n: int) -> Any:
        for k in range(n):
            yield double.piece(k)

    @split.compose
    def joined(pieces: Any, n: int) -> int:
        return sum(pieces.results())

    job = split.later(5)
    outage = Outage(app, monkeypatch, [verb])
    outage.begin()
    with app.worker(concurrency=2):
        until(lambda: outage.calls >= 1, "the outage was met")
        outage.on.clear()
        until(lambda: app.store.get([job.id])[0].state in ("completed", "failed"), "it ended")
        record = app.store.get([job.id])[0]
    assert (record.state, record.error) == ("completed", None)
    assert record.attempt == 1
    assert books(path) == []


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_a_file_that_others_lock_is_waited_for(app: Piecework, double: Any, path: Path) -> None:
    with app.worker(concurrency=2):
        assert double.later(1).result(timeout=30) == 2
        job = double.later(2)
        with locked_file(path):
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 0.3)
        assert job.result(timeout=30) == 4


CLOSE = """
import sys, threading
from piecework import Piecework
app = Piecework(sys.argv[1])
app.store.counts()
over = threading.Event()
wrong = []
def listen():
    while not over.is_set():
        try:
            app.store.wait(0.005)
        except BaseException as error:
            wrong.append(repr(error))
def write():
    while not over.is_set():
        app.store.counts()
        app.store.pause("q")
threads = [threading.Thread(target=t) for t in (listen, listen, write)]
for thread in threads: thread.start()
for _ in range(300): app.store.close()
over.set()
for thread in threads: thread.join()
sys.exit(str(wrong[:3]) if wrong else 0)
"""


def test_closing_a_store_in_which_others_read_write_and_wait_is_safe(store_url: str) -> None:
    """A worker's listener may still wait for a hint while its app is closed. In a process of its own: it may not survive."""
    source = str(Path(piecework.__file__).parent.parent)
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CLOSE, store_url],
        env={"PYTHONPATH": source}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")


# ── stale ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", ["a result", "nothing", "a failure"])
def test_a_stale_outcome_is_refused_with_a_warning_and_changes_nothing(
    app: Piecework, caplog: pytest.LogCaptureFixture, path: Path, late: str
) -> None:
    """While the worker is inside the body, its job is given to somebody else, who completes it."""
    gate, inside = threading.Event(), threading.Event()

    @app.task(name="t", attempts=5)
    def held() -> str | None:
        inside.set()
        gate.wait(60)
        if late == "a failure":
            raise ValueError("too late")
        return "too late" if late == "a result" else None

    job = held.later()
    with app.worker(concurrency=1):
        assert inside.wait(5)
        record = job.record()
        assert record.worker is not None
        alter(path, job.id, run=2)  # fetched by somebody else
        somebody = Settlement(job.id, 2, State.COMPLETED, 1, "default", result='"in time"')
        assert app.store.settle([somebody]) == ["ok"]
        before = job.record()
        gate.set()
        until(lambda: said(caplog, "refused") == 1, "the refusal is told")
        assert job.record() == before
    (warning,) = [r for r in caplog.records if "refused" in r.getMessage()]
    assert warning.levelname == "WARNING"
    assert f"job {job.id} run 1" in warning.getMessage()
    assert (job.result(timeout=0), job.attempts()) == ("in time", [])
    assert books(path) == []


def test_a_job_whose_lease_is_lost_does_not_add_pieces(app: Piecework, path: Path) -> None:
    """A splitter's bites are fenced: a stale one stores nothing."""
    from piecework.errors import LeaseLost

    job_id = []

    @app.task(name="leaf")
    def leaf(n: int) -> int:
        return n

    @app.split(name="t")
    def split(n: int) -> Any:
        for k in range(n):
            if k == 60 and not job_id:
                job_id.append(job.id)
                with app.store.db.write() as con:  # type: ignore[attr-defined]
                    con.execute("UPDATE piecework_job SET run = run + 1 WHERE task = 't'")
            yield leaf.piece(k)

    job = split.later(120)
    with app.worker(concurrency=1):
        until(
            lambda: job_id and job.batch is not None and job.batch.completed == 50, "the first bite was stored and run"
        )
        with pytest.raises(LeaseLost):
            app.store.add([], fence=Fence(job.id, 1))
        assert app.jobs.where(task="leaf").count() == 50


def test_a_session_that_was_buried_starts_anew_and_its_jobs_run_again(
    app: Piecework, double: Any, caplog: pytest.LogCaptureFixture, path: Path
) -> None:
    gate, inside = threading.Event(), []

    @app.task(name="held")
    def held() -> int:
        inside.append(1)
        gate.wait(60)
        return len(inside)

    job = held.later()
    with app.worker(concurrency=2):
        until(lambda: len(inside) == 1, "it runs")
        (session,) = app.store.sessions()
        assert app.store.bury(session.id) == 1
        until(lambda: len(inside) == 2, "it runs again", within=5)
        gate.set()
        assert job.result(timeout=30) == 2
        assert double.later(3).result(timeout=30) == 6
        assert app.store.sessions()[0].id != session.id
    assert [(line.run, line.outcome) for line in job.attempts()] == [(1, "released")]
    assert job.record().attempt == 1
    assert app.store.sessions() == []
    assert books(path) == []


# ── forks ────────────────────────────────────────────────────────────────────────────────────────


def forked(body: Any) -> str:
    """Runs a function in a forked child and returns what it said; the child ends without Python's own clean-up."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(12)  # a child that hangs ends by itself, and has said nothing
        try:
            os.write(writer, str(body()).encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        said = answers.read()
    os.waitpid(pid, 0)
    return said


def connections(app: Piecework) -> list[Any]:
    """Over which a store writes, in this process."""
    store: Any = app.store
    if hasattr(store, "_client"):
        return [store._client.driver()]
    db = store.db
    return [db.writer()] if hasattr(db, "writer") else list(db._free)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_store_that_was_in_use_works_on_both_sides_of_a_fork(app: Piecework, double: Any, path: Path) -> None:
    before = [double.later(n) for n in range(3)]
    app.store.counts()
    app.store.wait(0)
    parents = connections(app)

    def child() -> str:
        made = [double.later(n) for n in range(3, 6)]
        assert not [con for con in connections(app) if con in parents], "the parent's connection is used"
        app.store.close()
        return " ".join(job.id for job in made)

    said = [forked(child) for _ in range(2)]
    after = [double.later(n) for n in range(6, 9)]
    assert drain(app) == 12
    jobs = before + [app.jobs.get(id) for ids in said for id in ids.split()] + after
    assert [job.result(timeout=0) for job in jobs] == [0, 2, 4, 6, 8, 10, 6, 8, 10, 12, 14, 16]
    assert books(path) == []


@pytest.mark.parametrize("shelf", ["sqlite"])  # whose library notes its locks in the process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_ends_does_not_take_its_parents_locks_away(app: Piecework, double: Any, path: Path) -> None:
    """POSIX locks die with any descriptor of the file that their process closes; the child's are another process's."""
    double.later(1)
    with app.store.db.write() as con:  # type: ignore[attr-defined]
        con.execute("UPDATE piecework_tally SET n = n")
        assert "OK" in forked(lambda: (double._app.store.counts(), "OK")[1])
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    assert drain(app) == 1
    assert books(path) == []


@pytest.mark.parametrize("shelf", ["sqlite"])  # whose library notes its locks in the process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_another_threads_transaction_leaves_the_child_free(
    app: Piecework, double: Any, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """That thread does not exist in the child: neither its lock nor its connection may be used there."""
    double.later(1)
    inside, forking = threading.Event(), threading.Event()
    db = app.store.db  # type: ignore[attr-defined]
    hold = db.hold

    def announced() -> None:
        forking.set()
        hold()

    def write() -> None:
        with db.write() as con:
            con.execute("UPDATE piecework_tally SET n = n")
            inside.set()
            assert forking.wait(60)  # which waits for this thread to leave the library

    monkeypatch.setattr(db, "hold", announced)

    writing = threading.Thread(target=write)
    writing.start()
    assert inside.wait(5)
    id = forked(lambda: double.later(21).id)
    writing.join()
    assert drain(app) == 2, f"the child said {id!r}"
    assert app.jobs.get(id).result(timeout=0) == 42
    assert books(path) == []


@pytest.mark.parametrize("shelf", ["sqlite"])  # whose library may not be forked while another thread is inside
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_until_no_other_thread_reads(app: Piecework, double: Any, path: Path) -> None:
    double.later(1)
    db = app.store.db  # type: ignore[attr-defined]
    inside, has_left = threading.Event(), threading.Event()

    def reads() -> None:
        with db.read() as con:
            con.execute("SELECT 1").fetchone()
            inside.set()
            end = time.monotonic() + 5
            while not db._entrance.locked() and time.monotonic() < end:  # until the fork is on its way
                time.sleep(0.001)
            has_left.set()

    reading = threading.Thread(target=reads)
    reading.start()
    assert inside.wait(5)
    assert forked(lambda: (has_left.is_set(), forked(lambda: double.later(2).id) != "")) == "(True, True)"
    reading.join()
    assert drain(app) == 2
    assert books(path) == []


def test_a_plain_job_may_fork_and_use_the_store_in_the_child(app: Piecework, double: Any, path: Path) -> None:
    @app.task(name="forks")
    def forks() -> str:
        return forked(lambda: double.later(21).id)

    job = forks.later()
    with app.worker(concurrency=2):
        made = app.jobs.get(job.result(timeout=30))
        assert made.result(timeout=30) == 42
    assert books(path) == []
