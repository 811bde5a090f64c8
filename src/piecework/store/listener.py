"""One listener for a store object, whichever thread's turn it is: how the shelves that are servers hear of something new.

What is heard is a hint: it may be lost, and may be of no use.
"""

from __future__ import annotations

import os
import threading
import time

from piecework.ids import short_token

_inherited: list[object] = []  # what a fork copied of the parent's listener; not used, not closed

TURN = 0.25  # seconds after which one who listens sees that the store was closed, and others get their turn


class Listener:
    """Threads that wait take turns at one connection; each is told once of what was heard."""

    def __init__(self) -> None:
        self._life = 0
        self._heard = 0
        self._seen: dict[int, int] = {}  # by thread: what it was told of last
        self._begin()

    def _begin(self) -> None:
        self.id = short_token()
        self._lock = threading.Lock()  # held by the thread that listens
        self._pid = os.getpid()

    def wait(self, timeout: float) -> bool:
        """Sleeps until something was heard that this thread was not told of yet, or the time is over."""
        self._leave_fork_behind()
        me, life, end = threading.get_ident(), self._life, time.monotonic() + timeout
        while self._life == life:
            if self._seen.get(me) != self._heard:
                self._seen[me] = self._heard
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._turn(min(left, TURN), life)
        return False

    def heard(self) -> None:
        """Lets every thread that waits look."""
        self._heard += 1

    def _leave_fork_behind(self) -> None:
        if os.getpid() != self._pid:
            _inherited.append((self._lock, self.forget()))
            self._begin()

    def _turn(self, seconds: float, life: int) -> None:
        """Listens for so long, or waits while another thread does."""
        if not self._lock.acquire(timeout=seconds):
            return
        try:
            if self._life == life:
                self.listen(seconds)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends every wait, and the connection."""
        self._leave_fork_behind()
        self._life += 1
        with self._lock:
            self.hang_up()

    # ── the shelf's own ──────────────────────────────────────────────────────────────────────────

    def listen(self, seconds: float) -> None:
        """Listens for so long at most, and calls `heard` where there was something. Raises the store's errors."""
        raise NotImplementedError

    def hang_up(self) -> None:
        """Closes the connection, if there is one."""
        raise NotImplementedError

    def forget(self) -> object:
        """Lets go of the connection without touching it, for it is the parent's; gives it, to be kept from being closed."""
        raise NotImplementedError
