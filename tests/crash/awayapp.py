"""The app of workers whose server goes away."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from piecework import Piecework


class Tasks(NamedTuple):
    double: Any
    held: Any


def declare(app: Piecework) -> Tasks:
    """The same tasks on any app: on the workers', and on the callers'."""

    @app.task(name="double", retry=0)
    def double(n: int) -> int:
        return 2 * n

    @app.task(name="held", retry=0)
    def held(gate: str) -> str:
        """Writes down that it was begun, waits for a file, and returns what is written there."""
        with open(f"{gate}.begun", "a") as begun:
            begun.write(f"{os.getpid()}\n")
        end = time.monotonic() + 60
        while not (Path(gate).exists() and Path(gate).read_text()) and time.monotonic() < end:
            time.sleep(0.005)
        return Path(gate).read_text()

    return Tasks(double, held)


app = Piecework(os.environ.get("AWAY_URL", "sqlite:///away.db"), lease=float(os.environ.get("AWAY_LEASE", "20")))
tasks = declare(app)
