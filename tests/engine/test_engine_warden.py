"""When a worker process is ended because one of its jobs holds it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from piecework.engine.slate import Slate
from piecework.engine.warden import ASLEEP_SECONDS, HELD_SECONDS, LOOK_SECONDS, Warden
from piecework.testing import FrozenClock


class Process:
    """A worker process that can be killed."""

    pid = 4711

    def __init__(self) -> None:
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def child() -> Iterator[Any]:
    child = SimpleNamespace(slate=Slate.create(4), process=Process(), blamed=None)
    yield child
    child.slate.close()


@pytest.fixture
def warden(child: Any, clock: FrozenClock) -> Warden:
    warden = Warden(lambda: [child], clock)
    watch(warden, clock, HELD_SECONDS + 1.0)
    return warden


def watch(warden: Warden, clock: FrozenClock, seconds: float) -> None:
    """Lets the warden look as often as it does, for so long."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end:
        clock.advance(min(LOOK_SECONDS, end - clock.monotonic()))
        warden.look()


def test_a_process_is_killed_once_a_job_is_five_seconds_past_its_time(
    warden: Warden, child: Any, clock: FrozenClock
) -> None:
    child.slate.write(0, "endless")
    child.slate.write(1, "late", clock.monotonic() + 1.0)
    child.slate.write(2, "later", clock.monotonic() + 3.0)
    watch(warden, clock, 1.0 + HELD_SECONDS)
    assert (child.process.kills, child.blamed) == (0, None)
    watch(warden, clock, LOOK_SECONDS)
    assert (child.process.kills, child.blamed) == (1, ["late"])
    watch(warden, clock, 60.0)
    assert (child.process.kills, child.blamed) == (1, ["late"])


def test_a_job_that_was_given_up_in_time_kills_nobody(warden: Warden, child: Any, clock: FrozenClock) -> None:
    child.slate.write(0, "late", clock.monotonic() + 1.0)
    watch(warden, clock, HELD_SECONDS)
    child.slate.clear(0)
    watch(warden, clock, 60.0)
    assert child.process.kills == 0


def test_after_a_standstill_of_everything_the_workers_get_the_whole_time_anew(
    warden: Warden, child: Any, clock: FrozenClock
) -> None:
    """As when a container is frozen: the worker could not give the job up, and does it now."""
    child.slate.write(0, "late", clock.monotonic() + 1.0)
    clock.advance(60.0)
    warden.look()
    watch(warden, clock, HELD_SECONDS - LOOK_SECONDS)
    assert child.process.kills == 0
    watch(warden, clock, LOOK_SECONDS)
    assert child.process.kills == 1


def test_looks_that_come_late_on_a_busy_machine_are_no_standstill(
    warden: Warden, child: Any, clock: FrozenClock
) -> None:
    child.slate.write(0, "late", clock.monotonic() + 1.0)
    for _ in range(4):
        clock.advance(ASLEEP_SECONDS)
        warden.look()
    assert child.process.kills == 1


def test_a_process_that_is_buried_just_now_is_passed_over(clock: FrozenClock) -> None:
    gone = SimpleNamespace(slate=Slate.create(1), process=Process(), blamed=None)
    held = SimpleNamespace(slate=Slate.create(1), process=Process(), blamed=None)
    for each in (gone, held):
        each.slate.write(0, "late", clock.monotonic() + 1.0)
    warden = Warden(lambda: [gone, held], clock)  # type: ignore[list-item]
    gone.slate.close()
    watch(warden, clock, HELD_SECONDS + 2.0)
    assert (gone.process.kills, held.process.kills) == (0, 1)
    held.slate.close()
