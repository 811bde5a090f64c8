"""A clock for tests of what happens after a while."""

from __future__ import annotations

from piecework.clock import SystemClock


class LeapingClock(SystemClock):
    """The machine's clock, which a test may set forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        return super().now() + self._ahead

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def leap(self, seconds: float) -> None:
        self._ahead += seconds
