"""Jobs of one database in the transactions of another: kept there, and carried over."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from tests.callers import ALL, Caller, make_table, numbers_in, opened, table_of

from piecework import Piecework, Step, Task
from piecework.errors import (
    BadSettings,
    JobCancelled,
    JobNotFound,
    ResultTimeout,
    StoreError,
    StoreUnavailable,
    WithinNotSupported,
)  # fmt: skip
from piecework.job import State
from piecework.testing.drain import drain

Double = Task[Any, Any, Any]
Until = Callable[[Callable[[], object]], None]
_numbers = itertools.count(1)


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> str:
    """The shelf of the data, and of the outbox beside it."""
    return str(request.node.callspec.params["caller"]).partition("-")[0]


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of the store that the jobs are carried to: in a file, where a test does not ask for Redis."""
    if getattr(request, "param", "sqlite") == "redis":
        return f"{request.getfixturevalue('redis').url}?prefix=elsewhere_{next(_numbers)}"
    return f"sqlite:///{tmp_path}/elsewhere.db?synchronous=normal"


@pytest.fixture
def app(elsewhere: str, store_url: str, leaping: LeapingClock) -> Iterator[Piecework]:
    """An app whose jobs are elsewhere than its data."""
    app = Piecework(elsewhere, outbox=store_url, clock=leaping)
    yield app
    app.close()


@pytest.fixture(params=ALL)
def caller(request: pytest.FixtureRequest, app: Piecework, store_url: str) -> Iterator[Caller]:
    for store in app.stores():
        store.migrate()
    make_table(store_url)
    shelf, _, kind = request.param.partition("-")
    with opened(shelf, kind, store_url) as found:
        yield found


one_of_each = pytest.mark.parametrize(
    ("elsewhere", "caller"),
    [("sqlite", "sqlite-sqlite3"), ("sqlite", "postgres-psycopg"), ("redis", "postgres-psycopg")],
    indirect=True,
)


def test_what_is_committed_is_carried_over_and_run(
    app: Piecework, double: Double, caller: Caller, store_url: str
) -> None:
    caller.begin()
    caller.execute(f"INSERT INTO {table_of(store_url)} VALUES (1)")
    job = caller.later(double, 21)
    many = caller.later_many(double, [(1,), (2,)])
    assert not any(app.outbox.box.jobs.counts().values())  # type: ignore[union-attr]
    with pytest.raises(JobNotFound, match="has not committed"):
        job.result(timeout=0)
    caller.commit()
    with pytest.raises(ResultTimeout, match="has not been carried"):
        job.result(timeout=0)
    assert not any(app.jobs.counts().values())
    drain(app)
    assert [each.result(timeout=0) for each in (job, *many)] == [42, 2, 4]
    assert app.jobs.get(job.id).task == "double"
    assert numbers_in(store_url) == [1]


def test_what_is_rolled_back_never_was(app: Piecework, double: Double, caller: Caller, store_url: str) -> None:
    caller.begin()
    caller.execute(f"INSERT INTO {table_of(store_url)} VALUES (1)")
    kept = caller.later(double, 1)
    savepoint = caller.save()
    undone = caller.later(double, 2)
    caller.undo(savepoint)
    caller.commit()
    caller.begin()
    lost = caller.later(double, 3)
    caller.rollback()
    drain(app)
    assert kept.result(timeout=0) == 2
    for never in (undone, lost):
        with pytest.raises(JobNotFound):
            never.result(timeout=0)
    assert app.jobs.where().count() == 1


@one_of_each
def test_options_operations_and_keys_travel_along(app: Piecework, double: Double, caller: Caller) -> None:
    def charge(step: Step[Any]) -> None:
        step["charged"] = step["order"] * 2

    fulfil = app.operation("fulfil", main=[charge])
    first = double.using(key="once").later(1)
    caller.begin()
    urgent = caller.later(double, 5, priority=-7, queue="mail", delay=3600)
    again = caller.later(double, 2, key="once")
    operation = fulfil.using(within=caller.given).later(order=4)
    caller.commit()
    drain(app)
    record = app.jobs.get(urgent.id).record()
    assert (record.priority, record.queue, record.state) == (-7, "mail", State.AVAILABLE)
    assert operation.result(timeout=0)["charged"] == 8
    assert again.result(timeout=0) == 2  # the job that carries the key, which was there before
    assert again == first


@one_of_each
def test_what_cannot_be_carried_stays_and_holds_up_nothing(
    app: Piecework, double: Double, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.begin()
    bad, good = caller.later(double, 1), caller.later(double, 2)
    caller.commit()
    add = app.store.add

    def refusing(jobs: Any, **where: Any) -> list[str]:
        if jobs[0].id == bad.id:
            raise ValueError("not this one")
        return add(jobs, **where)

    monkeypatch.setattr(app.store, "add", refusing)
    drain(app)
    assert good.result(timeout=0) == 4
    with pytest.raises(JobNotFound, match="could not be carried over: ValueError: not this one"):
        bad.result(timeout=5)
    monkeypatch.undo()
    assert app.outbox is not None
    assert app.outbox.box.jobs.where(state="failed").retry() == 1
    drain(app)
    assert bad.result(timeout=0) == 2


@one_of_each
@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreError("wants another password")])
def test_jobs_wait_as_long_as_the_store_is_away_or_takes_nobodys(
    error: StoreError,
    app: Piecework,
    double: Double,
    caller: Caller,
    leaping: LeapingClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One of them tries now and then, and it is told once that the store is away, and once that it is there again."""
    tried = []

    def away(jobs: Any, **where: Any) -> list[str]:
        tried.append(jobs[0].id)
        raise error

    caller.begin()
    jobs = caller.later_many(double, [(n,) for n in range(12)])
    caller.commit()
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "piecework.outbox"):
        patch.setattr(app.store, "add", away)
        for _ in range(8):
            drain(app)
            leaping.leap(5)
    with pytest.raises(ResultTimeout, match="has not been carried to the store yet"):
        jobs[0].result(timeout=0)
    assert 1 < len(tried) < 8 * len(jobs)
    leaping.leap(60)
    with caplog.at_level(logging.INFO, "piecework.outbox"):
        drain(app)
    assert [job.result(timeout=0) for job in jobs] == [2 * n for n in range(12)]
    told = [record.message for record in caplog.records if record.name == "piecework.outbox"]
    assert [message.partition(",")[0].partition(" after")[0] for message in told] == [
        "the store is not available",
        "the store is available again",
    ]


@one_of_each
def test_a_worker_carries_while_it_works(app: Piecework, double: Double, caller: Caller) -> None:
    with app.worker(concurrency=2):
        for n in range(3):
            caller.begin()
            job = caller.later(double, n)
            caller.commit()
            assert job.result(timeout=30) == 2 * n


MODULE = """
import os
from piecework import Piecework

app = Piecework(os.environ["STORE"], outbox=os.environ["OUTBOX"], lease=1)

@app.task(name="double")
def double(n: int) -> int:
    return 2 * n
"""


@one_of_each
@pytest.mark.parametrize(
    "failpoint",
    [
        "store.after_commit=kill:3",
        "store.after_commit=kill:4",
        "store.before_commit=kill:4",
        "store.after_commit=kill:5",
    ],
)
def test_kill_9_while_it_is_carried_neither_loses_nor_doubles(
    app: Piecework,
    double: Double,
    caller: Caller,
    elsewhere: str,
    store_url: str,
    tmp_path: Path,
    failpoint: str,
) -> None:
    """The points are passed by both stores: enlisting, fetching, adding, and noting that it was added."""
    caller.begin()
    jobs = [caller.later(double, n) for n in range(3)]
    caller.commit()
    (tmp_path / "carried.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    env = {**os.environ, "PYTHONPATH": path, "STORE": elsewhere, "OUTBOX": store_url}

    program = "from carried import app; app.worker(burst=True).run()"
    died = subprocess.run(
        [sys.executable, "-c", program], env=env | {"PIECEWORK_FAILPOINTS": failpoint}, timeout=60, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL
    heir = Piecework(elsewhere, outbox=store_url, lease=1)
    heir.task(name="double")(lambda n: 2 * n)
    with heir.worker():  # what the dead had in hand comes back after its lease
        assert [job.result(timeout=30) for job in jobs] == [0, 2, 4]
    heir.close()
    assert app.jobs.where().count() == 3


DIES_WITH_IT_ADDED = """
import os, signal
from carried import app

add = app.store.add

def once(jobs, **where):
    add(jobs, **where)
    os.kill(os.getpid(), signal.SIGKILL)

app.store.add = once
app.worker(burst=True).run()
"""


@pytest.mark.parametrize(
    ("elsewhere", "caller"), [("sqlite", "sqlite-sqlite3"), ("redis", "postgres-psycopg")], indirect=True
)
def test_kill_9_between_the_adding_and_the_note_of_it(
    app: Piecework,
    double: Double,
    caller: Caller,
    elsewhere: str,
    store_url: str,
    tmp_path: Path,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The heir adds it again, which changes nothing; what was cancelled meanwhile stays cancelled."""
    monkeypatch.setattr("piecework.outbox.IN_HAND_SECONDS", 0.1)
    caller.begin()
    job, cancelled = caller.later(double, 21), caller.later(double, 1)
    caller.commit()
    (tmp_path / "carried.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
    env = {**os.environ, "PYTHONPATH": path, "STORE": elsewhere, "OUTBOX": store_url}
    died = subprocess.run([sys.executable, "-c", DIES_WITH_IT_ADDED], env=env, timeout=60, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    added = [found.id for found in app.jobs.where()]
    assert added
    assert set(added) <= {job.id, cancelled.id}
    assert cancelled.cancel()  # wherever it is: there, in the outbox, or in the hand of the dead
    heir = Piecework(elsewhere, outbox=store_url, lease=1)
    heir.task(name="double")(lambda n: 2 * n)
    with heir.worker():
        assert job.result(timeout=30) == 42
        until(lambda: cancelled.state == State.CANCELLED)
    heir.close()
    assert sorted(found.id for found in app.jobs.where()) == sorted({*added, job.id})
    assert job.record().run == 1


@one_of_each
def test_commits_race_the_carrier(
    app: Piecework, double: Double, caller: Caller, request: pytest.FixtureRequest, store_url: str
) -> None:
    """Whoever commits while others are carried finds each of them done, and nobody finds what was rolled back."""
    shelf, _, kind = request.node.callspec.params["caller"].partition("-")
    committed: list[Any] = []
    undone: list[Any] = []

    def work(n: int) -> None:
        with opened(shelf, kind, store_url) as own:
            for m in range(6):
                own.begin()
                own.execute(f"INSERT INTO {table_of(store_url)} VALUES ({10 * n + m})")
                job = own.later(double, 10 * n + m)
                if m % 3 == 2:
                    own.rollback()
                    undone.append(job)
                else:
                    own.commit()
                    committed.append((10 * n + m, job))

    callers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    with app.worker(concurrency=4):
        for each in callers:
            each.start()
        for each in callers:
            each.join(60)
        assert [job.result(timeout=60) for _, job in committed] == [2 * n for n, _ in committed]
    assert len(committed) == 12
    assert sorted(n for n, _ in committed) == sorted(numbers_in(store_url))
    assert app.jobs.where().count() == 12
    for job in undone:
        with pytest.raises(JobNotFound):
            job.record()


@one_of_each
def test_the_app_works_on_while_the_database_of_its_outbox_is_away(
    app: Piecework,
    double: Double,
    caller: Caller,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert app.outbox is not None
    box, refused = app.outbox.box.store, []
    caller.begin()
    kept = caller.later(double, 21)
    caller.commit()

    def away(*args: Any, **more: Any) -> Any:
        refused.append(args)
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
        for verb in ("enlist", "renew", "exchange", "fetch", "report", "reap", "get"):
            patch.setattr(box, verb, away)
        with app.worker(concurrency=2):
            assert double.later(1).result(timeout=30) == 2
            until(lambda: len(refused) > 2)
            with pytest.raises(StoreUnavailable):
                kept.result(timeout=0)
            patch.undo()
            assert kept.result(timeout=30) == 42
    told = [record.message for record in caplog.records if "not available" in record.message]
    assert len(told) <= 2  # of the outbox, and of the handle that waited


@one_of_each
def test_a_connection_to_another_database_is_refused(
    app: Piecework, double: Double, caller: Caller, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "third.db") as other, pytest.raises(WithinNotSupported):
        double.using(within=other).later(1)
    assert not any(app.jobs.counts().values())


def test_an_outbox_without_tables_says_how_to_make_them(tmp_path: Path) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db", outbox=f"sqlite:///{tmp_path}/data.db")
    double = app.task(name="double")(lambda n: 2 * n)
    with sqlite3.connect(tmp_path / "data.db") as data:
        data.execute("CREATE TABLE fact (n)")
        data.execute("INSERT INTO fact VALUES (1)")
        with pytest.raises(StoreUnavailable, match=r"app\.migrate\(\)"):
            double.using(within=data).later(1)
    app.close()


@pytest.mark.parametrize("other", ["jobs.db", "./jobs.db", "jobs.db?synchronous=normal"])
def test_an_outbox_that_is_the_store_is_refused(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs would be taken for those that are to be carried."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSettings, match="leave outbox= out"):
        Piecework("sqlite:///jobs.db", outbox=f"sqlite:///{other}")


def test_what_came_too_late_to_be_begun_is_not_carried(tmp_path: Path, leaping: LeapingClock) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db", outbox=f"sqlite:///{tmp_path}/data.db", clock=leaping)
    double = app.task(name="double")(lambda n: 2 * n)
    app.migrate()
    with sqlite3.connect(tmp_path / "data.db") as data:
        data.execute("CREATE TABLE fact (n)")
        late, in_time = (double.using(within=data, expires=seconds).later(1) for seconds in (5, 500))
    leaping.leap(60)
    drain(app)
    with pytest.raises(JobCancelled, match="had not been begun by the time"):
        late.result(timeout=0)
    assert late.state == State.CANCELLED
    assert in_time.result(timeout=0) == 2
    app.close()
