"""The only place where time enters; tests hand in a clock of their own."""

from __future__ import annotations

from time import monotonic, time  # bound here: a job that puts something else in their place is not followed
from typing import Protocol


class Clock(Protocol):
    """Tells the wall time, and a time that never goes back."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, for durations."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time()

    def monotonic(self) -> float:
        return monotonic()
