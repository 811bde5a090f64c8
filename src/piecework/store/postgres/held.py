"""How a call waits for what somebody holds who is not behind the gate, a caller's transaction that may last.

Whoever waits inside of a transaction has a connection of the few, and holds up whoever waits for it: behind the gate, all.
So there it waits for a moment only, ends its transaction, and looks again a little later: for as long as any transaction
waits for others, and then it says so. Those of one process that have to look again take turns, with one connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from piecework.aside import step_aside

BRIEF_MS = 20  # how long a statement waits that others wait for
AGAIN_MS = 1  # … and when it looks again, after a pause
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25  # seconds
HELD = "55P03"
_BY_KEY = (
    "piecework_job_key",
    "piecework_operation_key",
    "inserting index tuple",
)  # the last: in English, as most say it


class Patience:
    """That of one call."""

    def __init__(self, seconds: float, turn: threading.Lock, draw: Callable[[], float]) -> None:
        self.tries = 0  # that found something held
        self._until = time.monotonic() + seconds
        self._turn = turn
        self._draw = draw

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Inside of it, this call alone looks again; a first try needs no turn."""
        mine = self.tries > 0 and self._turn.acquire(timeout=self._left())
        try:
            yield
        finally:
            if mine:
                self._turn.release()

    def lasts(self, error: psycopg.Error) -> bool:
        """Whether to look again, after a pause, because something was held: False once it was for too long.

        And where more calls of an event loop wait for something than may.
        """
        if error.sqlstate != HELD or not self._left() or not step_aside():
            return False
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.tries, 10)) * (0.5 + self._draw() / 2)
        self.tries += 1
        time.sleep(min(pause, self._left()))
        return True

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())


def by_key(error: BaseException | None) -> bool:
    """Whether it was a unique key that was waited for: the server says what it was at."""
    while error is not None:
        context = error.diag.context if isinstance(error, psycopg.Error) else getattr(error, "context", None)
        if isinstance(context, str):
            return any(said in context for said in _BY_KEY)
        error = getattr(error, "orig", None) or error.__cause__
    return False
