"""Jobs that were running when two workers died: each is run alone, so that a further death is charged to it only.

After one death its jobs run again at once, all together: mostly it was none of them. Not so where a job held the
interpreter past its timeout: its supervisor knows which one, and it is a suspect from then on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from piecework.clock import Clock
from piecework.engine.context import Running

PATIENCE_SECONDS = 2.0  # how long a suspect waits to run alone; where the others do not end, it runs beside them


class Suspects:
    """The suspects that one worker holds: those that wait, and the one that runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._line: deque[Running] = deque()
        self._alone: str | None = None
        self._since = 0.0  # when the first in line began to wait, or the last one began to run

    def __len__(self) -> int:
        return len(self._line)

    def add(self, job: Running) -> None:
        if not self._line:
            self._since = self._clock.monotonic()
        self._line.append(job)

    def want_the_place(self) -> bool:
        """Whether nothing else is to be fetched now, because a suspect waits or runs alone."""
        if self._line:
            return True
        return self._alone is not None and self._clock.monotonic() - self._since < PATIENCE_SECONDS

    def next(self, in_hand: Collection[str]) -> Running | None:
        """The suspect whose turn it is, once the others have ended or its patience has; `in_hand` has the suspects too."""
        if self._alone is not None and self._alone not in in_hand:
            self._alone = None
        now = self._clock.monotonic()
        others = len(in_hand) - len(self._line)
        if not self._line or (others and now - self._since < PATIENCE_SECONDS):
            return None
        suspect = self._line.popleft()
        self._since = now
        self._alone = suspect.job.id
        return suspect

    def take_back(self) -> list[Running]:
        """Those that have not begun; none of them will."""
        taken = list(self._line)
        self._line.clear()
        return taken
