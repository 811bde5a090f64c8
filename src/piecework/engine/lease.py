"""Until when a worker may begin what it holds: what was fetched before a long silence may be somebody else's by now."""

from __future__ import annotations

import math

from piecework.clock import Clock
from piecework.engine.runner import Runner


class Lease:
    """How long a silent worker keeps its jobs, as that worker sees it.

    The silence of the session counts, not only this worker's: its supervisor may stand still while it works.
    """

    def __init__(self, runner: Runner, clock: Clock, seconds: float) -> None:
        self._runner = runner
        self._clock = clock
        self._seconds = seconds
        self._beaten_at = math.inf  # unknown, until somebody says it
        self._reached_at = math.inf

    def beaten(self, at: float) -> None:
        """The session beat at this moment of the monotonic clock; may be called from any thread."""
        self._beaten_at = at
        self._judge()

    def reached(self) -> None:
        """The store has answered this worker."""
        self._reached_at = self._clock.monotonic()
        self._judge()

    def _judge(self) -> None:
        self._runner.begin_until = min(self._reached_at, self._beaten_at) + self._seconds

    def is_doubtful(self) -> bool:
        """Whether the session may be lost: what came would not be begun.

        It would go there and back until the session beats again, or is buried.
        """
        return self._clock.monotonic() > self._beaten_at + self._seconds
