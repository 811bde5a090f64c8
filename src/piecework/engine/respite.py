"""How long to wait before a dead worker process is replaced."""

from __future__ import annotations

YOUNG_SECONDS = 1.0  # a process that worked for less before it died died young
ALLOWED = 5  # young deaths in a row that are replaced at once
LONGEST = 10.0


class Respite:
    """Not at all, unless processes die young one after the other: then what they run, or the app, kills them.

    Processes that had worked for a while are replaced at once however many are killed, since their jobs wait for it.
    """

    def __init__(self) -> None:
        self._young = 0

    def after(self, worked: float) -> float:
        """Seconds to wait, after a process died that had worked for so many seconds."""
        self._young = self._young + 1 if worked < YOUNG_SECONDS else 0
        return 0.0 if self._young <= ALLOWED else min(LONGEST, 0.1 * 2.0 ** min(self._young - ALLOWED, 10))
