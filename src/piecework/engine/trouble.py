"""The store's absences: told once when they begin and once when they are over, with growing pauses in between."""

from __future__ import annotations

import logging

log = logging.getLogger("piecework.worker")


class Trouble:
    """The store's absences, told once when they begin and once when they are over."""

    def __init__(self) -> None:
        self._times = 0

    def meet(self, error: Exception) -> None:
        self._times += 1
        if self._times == 1:
            log.warning("the store is not available, trying again until it is: %s", error)

    def over(self) -> None:
        if self._times:
            log.info("the store is available again after %d tries", self._times)
            self._times = 0

    def delay(self, draw: float) -> float:
        """Seconds to wait before the next try: doubling to five, with jitter."""
        return min(5.0, 0.05 * float(1 << min(self._times, 10))) * (0.5 + draw / 2)
