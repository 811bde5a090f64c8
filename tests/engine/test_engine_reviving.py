"""Parked jobs come back when code arrives that can run them, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import alter, books, until

from piecework import Piecework
from piecework.engine.reviver import BITE, REVIVE_SECONDS, Reviver
from piecework.engine.runner import Runner
from piecework.ids import new_ids
from piecework.job import NewJob
from piecework.store import Store
from piecework.testing import FrozenClock
from piecework.testing.drain import drain


@pytest.fixture
def newer(store_url: str) -> Any:
    """The same store, seen by newer code, which knows one task more."""
    app = Piecework(store_url)

    @app.task(name="new")
    def new(n: int) -> int:
        return n

    yield app
    app.close()


def park(app: Piecework, *jobs: tuple[str, str]) -> list[Any]:
    """Stores jobs that this app cannot run, and lets it park them."""
    made = [NewJob(id, task, args) for id, (task, args) in zip(new_ids(len(jobs)), jobs, strict=True)]
    app.add(made)
    drain(app)
    found = [app.jobs.get(job.id) for job in made]
    assert {job.state for job in found} == {"parked"}
    return found


def test_an_unknown_task_is_parked_with_the_reason_and_revived_when_the_code_arrives(
    app: Piecework, newer: Piecework, path: Path
) -> None:
    (job,) = park(app, ("new", '{"n":3}'))
    assert "unknown task 'new'" in str(job.record().reason)
    with newer.worker():
        assert newer.jobs.get(job.id).result(timeout=15) == 3
    record = job.record()
    assert (record.attempt, record.run, record.reason) == (1, 2, None)
    assert books(path) == []


def test_an_undecodable_payload_is_parked_and_stays_while_no_code_can_read_it(
    app: Piecework, newer: Piecework, path: Path
) -> None:
    unreadable, readable = park(app, ("new", '{"n":"three"}'), ("new", '{"n":3}'))
    with newer.worker():
        assert newer.jobs.get(readable.id).result(timeout=15) == 3
    assert (unreadable.state, unreadable.record().run) == ("parked", 1)
    assert books(path) == []


def test_a_job_that_killed_its_workers_is_left_to_somebody(app: Piecework, newer: Piecework, path: Path) -> None:
    poison, other = park(app, ("new", '{"n":1}'), ("new", '{"n":2}'))
    alter(path, poison.id, crashes=3)
    with newer.worker():
        assert newer.jobs.get(other.id).result(timeout=15) == 2
    assert poison.state == "parked"


def test_a_job_parked_for_want_of_a_pool_is_revived_by_a_worker_that_has_one(app: Piecework) -> None:
    @app.task(name="p", pool="process")
    def work() -> None: ...

    job = work.later()
    drain(app)  # this app is no module's own, so no process could import it
    assert job.state == "parked"
    assert "piecework work MODULE:APP" in str(job.record().reason)
    runner = Runner(app.registry, app.store, app.clock)
    assert Reviver(runner, app.store, app.clock).turn() == 1
    runner.has_processes = False
    assert not runner.could_run(job.record())


class Counting:
    """A store that counts the calls that it is sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._store, name)


def test_ten_thousand_parked_are_looked_through_a_bite_at_a_time(app: Piecework, newer: Piecework, path: Path) -> None:
    ids = new_ids(10_000)
    app.add([NewJob(id, "new" if n >= 9_900 else "gone", '{"n":1}') for n, id in enumerate(ids)])
    drain(app)
    assert app.jobs.where(state="parked").count() == 10_000
    clock = FrozenClock()
    store: Any = Counting(newer.store)
    reviver = Reviver(Runner(newer.registry, newer.store, clock), store, clock)
    turns = []
    while sum(turns) < 100:
        turns.append(reviver.turn())
        assert reviver.turn() == 0  # not before its time
        clock.advance(REVIVE_SECONDS)
    assert len(turns) == 10_000 // BITE
    assert store.calls.count("find") == len(turns)
    assert store.calls.count("retry") == 1
    assert newer.jobs.where(state="available").count() == 100
    assert books(path) == []


def test_old_and_new_workers_side_by_side_do_not_throw_a_job_to_and_fro(
    app: Piecework, newer: Piecework, path: Path
) -> None:
    """Whoever parks it, it comes back at most once in a reviver's interval, and no attempt is spent."""
    jobs = park(app, *[("new", '{"n":3}')] * 20)
    with app.worker(concurrency=20), newer.worker(concurrency=1):
        until(lambda: all(job.state in ("parked", "completed") and job.record().run > 1 for job in jobs), "tried again")
        assert max(job.record().run for job in jobs) <= 3
    with newer.worker():
        for job in jobs:
            newer.jobs.get(job.id).result(timeout=20)
    assert {job.record().attempt for job in jobs} == {1}
    assert books(path) == []
