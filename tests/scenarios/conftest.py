"""Apps on real files, and the clocks and signals that scenarios wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from leaping import LeapingClock
from operation_steps import Steps

from piecework import Piecework

DEADLINE = 30.0


@pytest.fixture
def leaping() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
def app(tmp_path: Path, leaping: LeapingClock) -> Iterator[Piecework]:
    """An app on a file of its own. Jobs need not survive a loss of power here."""
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db?synchronous=normal", clock=leaping)
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
