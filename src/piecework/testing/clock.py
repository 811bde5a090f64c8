"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading


class FrozenClock:
    """Tells the time that it was set to; `advance` moves it, and nothing else does."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._start = now
        self._elapsed = 0.0

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward."""
        with self._lock:
            self._elapsed += seconds
