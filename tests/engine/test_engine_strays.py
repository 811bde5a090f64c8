"""What a worker holds by the store's books and never got, because its fetch arrived after it had asked again."""

from __future__ import annotations

import logging
from typing import cast

import pytest
from support import books, until

from piecework import Piecework
from piecework.engine import strays
from piecework.engine.strays import LOOK_SECONDS, WHY, Strays
from piecework.job import Claim, State
from piecework.store import Store
from piecework.testing import FrozenClock, ModelStore
from piecework.testing.conformance.kit import a_session, add, fetch, record
from piecework.testing.conformance.operations import started


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def model(clock: FrozenClock) -> Store:
    store = cast(Store, ModelStore(clock=clock))
    store.enlist(a_session("w"))
    return store


def test_what_is_not_in_hand_goes_back_when_it_is_time(model: Store, clock: FrozenClock) -> None:
    known, stray, other = (add(model) for _ in range(3))
    fetch(model, 2, worker="w.1")
    fetch(model, 1, worker="w.2")
    looking = Strays("w.1", model, clock, 600.0)
    assert looking.turn(lambda: {known}) == 0
    clock.advance(LOOK_SECONDS)
    assert looking.turn(lambda: {known}) == 1
    assert [record(model, id).state for id in (known, stray, other)] == [
        State.RUNNING,
        State.AVAILABLE,
        State.RUNNING,
    ]
    assert [(line.outcome, line.reason) for line in model.attempts(stray)] == [("released", WHY)]
    (again,) = fetch(model, worker="w.2")
    assert (again.id, again.run, again.attempt, again.crashes) == (stray, 2, 0, 0)
    clock.advance(LOOK_SECONDS)
    assert looking.turn(lambda: {known}) == 0


def test_an_operation_goes_back_where_it_is(model: Store, clock: FrozenClock) -> None:
    """Nothing of it has been done by the run that nobody had."""
    run = started(model)
    looking = Strays("w.1", model, clock, 600.0)
    clock.advance(LOOK_SECONDS)
    before = record(model, run.id)
    assert looking.turn(set) == 1
    after = record(model, run.id)
    assert (after.state, after.cursor, after.attempt) == (State.AVAILABLE, before.cursor, before.attempt)


def test_where_the_lease_is_short_it_is_looked_more_often(model: Store, clock: FrozenClock) -> None:
    add(model)
    fetch(model, worker="w.1")
    looking = Strays("w.1", model, clock, 1.0)
    clock.advance(1.0)
    assert looking.turn(set) == 1


def test_a_fetch_that_arrives_late_is_made_up_for_by_its_worker(
    app: Piecework, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: object
) -> None:
    """The worker lives and beats, has long been answered, and goes on."""
    monkeypatch.setattr(strays, "LOOK_SECONDS", 0.05)

    @app.task(name="t", queue="late")
    def task() -> None:
        pass

    job = task.later()
    with caplog.at_level(logging.WARNING), app.worker(queues=["other"]):
        (session,) = app.store.sessions()
        (run,) = app.store.fetch(Claim(f"{session.id}.1", 1_000_000, 5, ("late",)))  # no number that it asks with now
        assert run.id == job.id
        until(lambda: WHY in caplog.text, lambda: f"it is given back: {job.record()}")
        assert job.state == "available"
        assert [found.id for found in app.store.sessions()] == [session.id]
    assert app.worker(burst=True).run() == 1
    assert (job.state, job.record().attempt, job.record().run) == ("completed", 1, 2)
    assert books(path) == []
