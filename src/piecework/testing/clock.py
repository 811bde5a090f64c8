"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class FrozenClock:
    """Tells the time that it was set to (seconds since the epoch, UTC); `advance` moves it, and nothing else does.

    Example::

        clock = FrozenClock()
        app = Piecework("sqlite://:memory:", clock=clock)
        job = task.using(delay=60).later()
        clock.advance(60)
        drain(app)
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._start = now
        self._elapsed = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since it was made."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Moves both forward, by so many seconds."""
        with self._lock:
            self._elapsed += seconds
