"""Jobs that are still in the outbox: what is said of them, and what can be done to them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock

from piecework import Piecework, Step, Task, wait_for
from piecework.errors import BadOption, JobCancelled, JobNotFound, SchemaOutdated, StoreUnavailable
from piecework.job import State
from piecework.testing.drain import drain

Double = Task[Any, Any, Any]


@pytest.fixture
def app(tmp_path: Path, leaping: LeapingClock) -> Iterator[Piecework]:
    """An app whose jobs are elsewhere than its data."""
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db", outbox=f"sqlite:///{tmp_path}/data.db", clock=leaping)
    app.migrate()
    yield app
    app.close()


@pytest.fixture
def data(app: Piecework, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    data = sqlite3.connect(tmp_path / "data.db")
    data.execute("CREATE TABLE fact (n)")
    yield data
    data.close()


@pytest.fixture
def double(app: Piecework) -> Double:
    @app.task(name="double", tags=["twice"], identity="n")
    def double(n: int) -> int:
        return 2 * n

    return double


def kept(data: sqlite3.Connection, task: Any, n: int, **options: Any) -> Any:
    """A job whose transaction has committed, and which nobody has carried."""
    with data:
        data.execute("INSERT INTO fact VALUES (1)")
        return task.using(within=data, **options).later(n)


def test_it_is_said_where_the_job_is(app: Piecework, double: Double, data: sqlite3.Connection) -> None:
    job = kept(data, double, 21, queue="mail", priority=3, key="once", delay=60)
    found = app.jobs.get(job.id)
    assert found == job
    record = found.record()
    assert (record.state, record.queue, record.priority, record.key) == (State.WAITING, "mail", 3, "once")
    assert (record.tags, record.identity, found.arguments) == (("twice",), "21", {"n": 21})
    assert record.run_at == record.created_at + 60
    assert record.reason == "in the outbox: it has not been carried to the store yet"
    assert not job.retry()
    drain(app)
    assert (job.state, job.record().reason) == (State.AVAILABLE, None)


def test_what_is_cancelled_in_the_outbox_is_never_carried(
    app: Piecework, double: Double, data: sqlite3.Connection
) -> None:
    job, other = kept(data, double, 1), kept(data, double, 2)
    assert app.jobs.get(job.id).cancel("not any more", by="ada")
    assert not job.cancel()
    drain(app)
    record = job.record()
    assert (record.state, record.reason, record.stopped_by) == (State.CANCELLED, "not any more", "ada")
    with pytest.raises(JobCancelled, match="not any more"):
        job.result(timeout=0)
    assert [found.id for found in app.jobs.where()] == [other.id]
    assert asyncio.run(job.aretry())
    drain(app)
    assert job.result(timeout=0) == 2


def test_what_has_not_been_committed_cannot_be_found_or_cancelled(
    app: Piecework, double: Double, data: sqlite3.Connection
) -> None:
    data.execute("INSERT INTO fact VALUES (1)")
    job = double.using(within=data).later(1)
    assert not job.cancel()
    with pytest.raises(JobNotFound, match="its transaction has not committed"):
        app.jobs.get(job.id)
    data.rollback()


def in_hand(app: Piecework, monkeypatch: pytest.MonkeyPatch, after: Any) -> tuple[threading.Event, threading.Event]:
    """Carriers tell when they have a job in hand, and put it down when they are told; then `after` is called."""
    taken, told, add = threading.Event(), threading.Event(), app.store.add

    def slowly(jobs: Any, **where: Any) -> list[str]:
        taken.set()
        assert told.wait(30)
        return after(add, jobs)  # type: ignore[no-any-return]

    monkeypatch.setattr(app.store, "add", slowly)
    return taken, told


def test_what_somebody_has_in_hand_is_cancelled_when_it_has_come(
    app: Piecework, double: Double, data: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = kept(data, double, 1, delay=3600)
    taken, told = in_hand(app, monkeypatch, lambda add, jobs: add(jobs))
    carrying = threading.Thread(target=drain, args=(app,))
    carrying.start()
    assert taken.wait(30)
    assert job.state == State.WAITING
    threading.Timer(0.05, told.set).start()
    assert job.cancel("too late for the outbox")
    carrying.join(30)
    assert app.store.get([job.id])[0].state is State.CANCELLED
    assert job.state == State.CANCELLED


def test_what_somebody_has_in_hand_in_vain_does_not_come_back(
    app: Piecework,
    double: Double,
    data: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    leaping: LeapingClock,
) -> None:
    def away(add: Any, jobs: Any) -> list[str]:
        raise StoreUnavailable("away")

    job = kept(data, double, 1)
    with monkeypatch.context() as patch:
        taken, told = in_hand(app, patch, away)
        carrying = threading.Thread(target=drain, args=(app,))
        carrying.start()
        assert taken.wait(30)
        threading.Timer(0.05, told.set).start()
        assert job.cancel("not any more")
        carrying.join(30)
    leaping.leap(60)
    drain(app)
    assert app.store.get([job.id]) == []
    assert job.state == State.CANCELLED


def test_a_handle_leads_to_the_job_that_had_its_key_before(
    app: Piecework, double: Double, data: sqlite3.Connection
) -> None:
    first = double.using(key="once", delay=3600).later(1)
    read, cancelled = kept(data, double, 2, key="once"), kept(data, double, 3, key="once")
    assert read.record().args == '{"n":2}'  # whether its key is free nobody knows yet
    drain(app)
    assert app.jobs.get(read.id) == first
    assert read.arguments == {"n": 1}
    assert read == first
    assert cancelled.cancel()
    assert first.state == State.CANCELLED


def test_that_a_key_is_taken_cannot_be_told_at_once(app: Piecework, double: Double, data: sqlite3.Connection) -> None:
    fulfil = app.operation("fulfil", main=[wait_for("paid")])
    for start in (double, fulfil):
        sure = start.using(within=data, key="once", on_duplicate="raise")
        with pytest.raises(BadOption, match='on_duplicate="raise" cannot be kept with within= with an outbox'):
            sure.later(n=1)
        with pytest.raises(BadOption, match="cannot be kept"):
            asyncio.run(sure.alater(n=1))
    data.commit()
    assert app.outbox is not None
    assert not any(app.outbox.box.jobs.counts().values())


def test_operations_in_the_outbox(app: Piecework, data: sqlite3.Connection) -> None:
    def charge(step: Step[Any]) -> None:
        step["charged"] = True

    fulfil = app.operation("fulfil", main=[wait_for("paid"), charge])
    operation, other = kept(data, fulfil, {"order": 1}), kept(data, fulfil, {"order": 2})  # type: ignore[arg-type]
    assert operation.state == State.WAITING
    assert type(app.jobs.get(operation.id)) is type(operation)
    for ask in (operation.kept, lambda: operation.signal("paid"), lambda: operation.status):
        with pytest.raises(JobNotFound, match="in the outbox: it has not been carried"):
            ask()
    assert other.cancel("not any more", undo=True)
    drain(app)
    assert operation.signal("paid")
    drain(app)
    assert operation.result(timeout=0) == {"order": 1, "paid": None, "charged": True}
    assert other.state == State.CANCELLED
    assert fulfil.where().count() == 1


def test_a_job_waits_where_the_store_has_another_version(
    app: Piecework,
    double: Double,
    data: sqlite3.Connection,
    leaping: LeapingClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a deployment: the carriers that are replaced do not fail what those of the new version will carry."""

    def outdated(jobs: Any, **where: Any) -> list[str]:
        raise SchemaOutdated("the store is newer than this version of piecework")

    job = kept(data, double, 1)
    with monkeypatch.context() as patch:
        patch.setattr(app.store, "add", outdated)
        drain(app)
        assert "newer than this version" in str(job.record().reason)
    leaping.leap(60)
    drain(app)
    assert job.result(timeout=0) == 2
