"""How a call waits for what somebody holds who is not behind the gate, a caller's transaction that may last.

Whoever waits inside of a transaction has a connection of the few, and holds up whoever waits for it: behind the gate,
all.
So there it waits for a moment only, ends its transaction, and looks again a little later: for as long as any
transaction waits for others, and then it says so. Those of one process that have to look again take turns, with one
connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

import psycopg

from piecework.aside import step_aside

BRIEF_MS = 20  # how long a statement waits that others wait for
AGAIN_MS = 1  # … and when it looks again, after a pause
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25  # seconds
HELD = "55P03"
_KEYS = ("piecework_job_key", "piecework_operation_key")
_JOBS = "piecework_job"  # the table, by which the server calls a key that ON CONFLICT waits for

_while_inserting: WeakSet[BaseException] = WeakSet()


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


@contextmanager
def inserting() -> Iterator[None]:
    """Inside of it, jobs are inserted: of all rows of their table, an insertion waits for those alone that have its keys."""
    try:
        yield
    except Exception as error:
        _while_inserting.add(error)
        raise


def by_key(error: BaseException | None) -> bool:
    """Whether it was a unique key that was waited for.

    The server says what it was at, in its own language; the names of tables and indexes are the same in all of them.
    """
    adds = False
    while error is not None:
        adds = adds or error in _while_inserting
        said = _context(error)
        if said is not None:
            return any(key in said for key in _KEYS) or (adds and _JOBS in said)
        error = getattr(error, "orig", None) or error.__cause__
    return False


def _context(error: BaseException) -> str | None:
    said = error.diag.context if isinstance(error, psycopg.Error) else getattr(error, "context", None)
    return said if isinstance(said, str) else None
