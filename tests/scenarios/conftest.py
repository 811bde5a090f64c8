"""Apps on real files, and the clocks and signals that scenarios wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from operation_steps import Steps

from piecework import Piecework, Task

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
def double(app: Piecework) -> Task[Any, Any, Any]:
    """A task that whatever is said of adding can be shown with."""

    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    return double


@pytest.fixture
def data(tmp_path: Path) -> str:
    """The URL of a database of the caller's own, which the store knows nothing of."""
    return f"sqlite:///{tmp_path}/data.db"


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
