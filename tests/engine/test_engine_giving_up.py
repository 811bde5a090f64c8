"""A late job either ends or is given up: the pools alone, at the moment at which both would happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support import until

from piecework import Piecework
from piecework.engine import pool as rooms
from piecework.engine.context import Running
from piecework.engine.pool import Inbox, LoopPool, ThreadPool
from piecework.engine.runner import Runner
from piecework.engine.slate import Slate
from piecework.ids import new_id
from piecework.job import Fetched
from piecework.outcome import Complete, Release
from piecework.testing import FrozenClock


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def timed(clock: FrozenClock) -> Any:
    """A runner on a clock that stands still until the test moves it, and a maker of runs of its two tasks."""
    app = Piecework("sqlite:///never.db", clock=clock)
    gates: dict[str, threading.Event] = {}

    @app.task(name="t", timeout=1)
    def work(gate: str) -> str:
        gates[gate].wait(20)
        return gate

    @app.task(name="a", timeout=None)
    async def coroutine(gate: str) -> str:
        return gate

    runner = Runner(app.registry, app.store, clock)

    def make(gate: str, task: str = "t") -> Running:
        gates.setdefault(gate, threading.Event())
        job = Fetched(new_id(), 1, task, "default", 0, 0, 0, None, None, None, None, 0.0, f'{{"gate":"{gate}"}}')
        prepared = runner.prepare(job)
        assert isinstance(prepared, Running)
        return prepared

    return runner, make, gates


@pytest.fixture
def slate() -> Iterator[Slate]:
    slate = Slate.create(4)
    yield slate
    slate.close()


def ended(inbox: Inbox, n: int = 1) -> list[Any]:
    until(lambda: len(inbox.items) >= n, "they ended")
    return inbox.take()


def test_one_that_ends_in_the_moment_of_being_given_up_is_heard_and_its_thread_goes_on(
    timed: Any, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker looks at where the thread is, the thread ends its job."""
    runner, make, gates = timed
    inbox = Inbox()
    pool = ThreadPool(runner, inbox, 1)
    late = make("late")
    pool.submit([late])
    until(lambda: late.deadline is not None, "it runs")
    clock.advance(5.0)
    looked = rooms.is_stuck

    def look(job: Running, now: float) -> bool:
        found = looked(job, now)
        gates["late"].set()
        until(lambda: inbox.items, "it has ended")
        return found

    monkeypatch.setattr(rooms, "is_stuck", look)
    assert pool.abandon_late() == []
    assert ended(inbox) == [(late, Complete('"late"'))]
    assert pool.stuck() == 0
    gates["next"] = threading.Event()
    gates["next"].set()
    following = [make("next") for _ in range(3)]
    pool.submit(following)
    assert [job for job, _ in ended(inbox, 3)] == following
    pool.close()


def test_one_that_was_given_up_is_not_heard_when_it_ends_and_stands_on_no_slate(
    timed: Any, clock: FrozenClock, slate: Slate
) -> None:
    runner, make, gates = timed
    inbox = Inbox()
    pool = ThreadPool(runner, inbox, 1, slate)
    late = make("late")
    pool.submit([late])
    until(lambda: late.deadline is not None, "it runs")
    assert slate.read() == [late.job.id]
    clock.advance(5.0)
    ((given_up, stack),) = pool.abandon_late()
    assert given_up is late
    assert "in work" in stack
    assert (slate.read(), slate.overdue(1e12), pool.stuck()) == ([], [], 1)
    assert pool.abandon_late() == []
    gates["late"].set()
    until(lambda: pool.stuck() == 0, "its thread has ended")
    following = make("late")
    pool.submit([following])
    assert [job for job, _ in ended(inbox)] == [following]
    pool.close()


def test_a_coroutine_that_other_code_cancels_before_its_first_step_is_handed_back(timed: Any) -> None:
    runner, make, _ = timed
    inbox = Inbox()
    pool = LoopPool(runner, inbox, 1)
    first = make("first", "a")

    def start_and_cancel() -> None:
        pool._line.append(first)
        pool._start()
        first.task.cancel()

    pool._loop.call_soon_threadsafe(start_and_cancel)
    ((job, outcome),) = ended(inbox)
    assert job is first
    assert isinstance(outcome, Release)
    second = make("second", "a")
    pool.submit([second])  # its place is free
    assert ended(inbox) == [(second, Complete('"second"'))]
    pool.close()
