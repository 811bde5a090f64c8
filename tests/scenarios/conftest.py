"""Apps on real files, and the clocks and signals that scenarios wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from leaping import LeapingClock
from operation_steps import Steps

from piecework import Piecework

DEADLINE = 30.0


@pytest.fixture
def leaping() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
def app(shelf: str, store_url: str, leaping: LeapingClock) -> Iterator[Piecework]:
    """An app on a store of its own, on each shelf. Jobs need not survive a loss of power here."""
    app = Piecework(store_url + ("?synchronous=normal" if shelf == "sqlite" else ""), clock=leaping)
    yield app
    app.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds, and fails when it does not within a deadline."""
    never = threading.Event()

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            never.wait(0.002)

    return wait


@pytest.fixture
def steps() -> Steps:
    return Steps("charge", "set_up", "email", "set_up_red", "b1", "b2")
