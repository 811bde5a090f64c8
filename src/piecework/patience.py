"""How long somebody waits for a job: between two looks at it, until it is late, and through absences of the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from piecework.clock import SystemClock
from piecework.engine.trouble import Trouble
from piecework.errors import StoreUnavailable
from piecework.options import check_seconds

log = logging.getLogger("piecework.jobs")

FIRST_WAIT, LONGEST_WAIT = 0.002, 0.25


class Patience:
    """The wait for one job: short pauses first, for short jobs; then longer ones."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + check_seconds(timeout, "result: timeout")
        self._wait = FIRST_WAIT
        self._trouble = Trouble(SystemClock(), log=log)

    def is_over(self) -> bool:
        """Whether the time to wait has passed."""
        return self._end is not None and time.monotonic() >= self._end

    @contextmanager
    def through_absences(self) -> Iterator[None]:
        """A look in which the store may be away, as long as there is time."""
        try:
            yield
        except StoreUnavailable as error:
            if self.is_over():
                raise
            self._trouble.meet(error)
        else:
            self._trouble.over()

    def pause(self) -> float:
        """Seconds until the next look."""
        wait, self._wait = self._wait, min(LONGEST_WAIT, self._wait * 1.5)
        wait = max(wait, self._trouble.left())
        return wait if self._end is None else max(0.0, min(wait, self._end - time.monotonic()))
