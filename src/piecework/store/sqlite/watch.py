"""Notices that somebody else has committed to the file: by ear where the system tells of writes, else by the clock."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

from piecework.store.sqlite.ear import Ear

SHORTEST_LOOK, LONGEST_LOOK = 0.002, 0.012  # seconds between two looks for a change, where the system does not tell
FIRST_LOOK, AFTER_SOUND = 0.0005, 0.25  # seconds after a write was heard: until the first look, until it is given up
LONGEST_LISTEN = 0.25  # seconds after which one who listens sees that the store was closed
DEAF_SECONDS = 10.0  # a change that comes after so long without a sound shows that the system does not tell


class Watch:
    """Watches one file for one life of its store, which begins another watch when it is closed.

    Whoever waits meanwhile then wakes up.
    """

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self.lock = threading.Lock()  # over the connection: a fork, and who closes the store, keep others out of it
        self.connection: sqlite3.Connection | None = None
        self._path = path
        self._connect = connect
        self._over = False
        self._seen: dict[int, tuple[int, float]] = {}  # by thread: what it saw last, and since when
        self._ear: Ear | None = None
        self._ear_lock = threading.Lock()  # held by the thread that listens; others look by the clock
        self._heard_at = 0.0
        self._deaf = False  # it was tried, and the system does not tell

    def end(self) -> None:
        """The store is closed; called with the lock in hand."""
        self._over = True
        if self.connection is not None:
            self.connection.close()

    def changed(self, timeout: float) -> bool:
        """Sleeps until another connection committed, or the time is over, or the store is closed."""
        me = threading.get_ident()
        end = time.monotonic() + timeout
        while not self._over:
            # Compared with what this thread's last call saw, so that a commit between two calls is not missed.
            seen, now = self._look(), time.monotonic()
            if seen is None:
                return False
            if seen != self._seen.get(me, (None, now))[0]:
                self._seen[me] = seen, now
                self._mind_deafness(now)
                return True
            if now >= end:
                return False
            self._rest(now - self._seen[me][1], end - now)
        return False

    def _look(self) -> int | None:
        """A number that another connection's commit changes; None once the store was closed."""
        with self.lock:
            if self._over:
                return None
            if self.connection is None:
                self.connection = self._connect()
            (version,) = self.connection.execute("PRAGMA data_version").fetchone()
            return int(version)

    def _rest(self, quiet: float, left: float) -> None:
        """Sleeps until another look is worth it.

        Where the system tells of writes: until one is heard, and then by the clock until its commit can be seen, some
        milliseconds later. Elsewhere by the clock, the less often the longer it has been quiet: a look costs little,
        but waking a processor for it does not.
        """
        pause = min(max(SHORTEST_LOOK, quiet / 100), LONGEST_LOOK)
        if self._ear_lock.acquire(blocking=False):
            try:
                pause = self._listen(pause, left)
            finally:
                self._ear_lock.release()
        time.sleep(min(pause, left))

    def _listen(self, pause: float, left: float) -> float:
        """Waits for a write to be heard, and says how long to sleep then; `pause`, where the system does not tell."""
        ear = self._ear
        if ear is None:
            if not self._deaf:
                self._ear, self._heard_at = Ear.on(self._path + "-wal"), time.monotonic()
                self._deaf = self._ear is None
            return pause
        since = time.monotonic() - self._heard_at
        patience = max(FIRST_LOOK, since / 5) if since < AFTER_SOUND else LONGEST_LISTEN
        if ear.hears(min(left, patience)):
            self._heard_at = time.monotonic()
            return FIRST_LOOK
        return 0.0

    def _mind_deafness(self, now: float) -> None:
        """Goes back to the clock when changes come without a sound, as on some file systems."""
        ear = self._ear
        if ear is not None and now - self._heard_at > DEAF_SECONDS and self._ear_lock.acquire(blocking=False):
            try:
                if ear is self._ear and not ear.hears(0.0):
                    self._ear, self._deaf = None, True
            finally:
                self._ear_lock.release()
