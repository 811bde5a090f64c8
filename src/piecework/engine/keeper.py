"""What keeps the store in order beside the work: beats for a session, watches the other sessions, prunes and repairs.

It runs no user code. In a worker process started from the command line it lives in the supervisor, whose beat therefore
does not depend on what the jobs do.
"""

from __future__ import annotations

import logging
import os
import random
import socket
from collections.abc import Callable

from piecework.clock import Clock
from piecework.errors import StoreError, StoreRefused
from piecework.ids import short_token
from piecework.job import SessionRecord
from piecework.store.protocol import Store

log = logging.getLogger("piecework.keeper")

LEASE_SECONDS = 20.0
BEAT_SECONDS = 5.0
FIRST_BEAT_SECONDS = 1.0  # the first one follows soon: it says that the workers have begun to look
TIDY_SECONDS = 60.0
SMALLEST_BITE, LARGEST_BITE = 50, 500  # jobs that are deleted on one trip, where there is no haste
BITE_SECONDS = 0.02  # a bite that took longer, waiting for others included, makes the next one smaller
BITE_PAUSE, BITE_SHARE = 0.02, 4  # seconds between two bites, and at least so many times as long as the last one took
HASTE_SECONDS, MOST_HASTE = 5.0, 5  # while bites stay full, the haste doubles after so long each time, and so often


class Keeper:
    """One session's housekeeping; `turn` is called often and does what is due."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        name: str,
        lease: float = LEASE_SECONDS,
        keep_completed: float | None = None,
        draw: Callable[[], float] = random.random,
        polled: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._name = name
        self._lease = lease
        self._beat_every = min(BEAT_SECONDS, lease / 4)
        self._keep_completed = keep_completed
        self._draw = draw
        self._polled = polled  # how many seconds ago the workers looked at the store: for those who ask after them
        self._seen: dict[str, tuple[int, float]] = {}
        self._beat_at = 0.0
        self.beaten_at = clock.monotonic()  # nobody can bury this session before a lease after this moment
        self._watched_at = clock.monotonic()
        self._tidy_at = clock.monotonic() + TIDY_SECONDS * draw()
        self._repair_at = self._tidy_at
        self._bite = LARGEST_BITE
        self._full_since: float | None = None  # since when no bite found less than it may take
        self.session = ""

    def enlist(self) -> str:
        """Begins a new session and returns its id. Where the store did not answer, the session is what it was.

        Raises `StoreError` for a server that has never let us in, and does not: no time will mend that.
        """
        session = short_token()
        now, began = self._clock.now(), self._clock.monotonic()
        record = SessionRecord(
            id=session,
            beat=0,
            started_at=now,
            seen_at=now,
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        try:
            self._store.enlist(record)
        except StoreRefused as error:
            if self.session:
                raise
            raise StoreError(str(error)) from error
        self.beaten_at = began
        self._beat_at = self._clock.monotonic() + min(FIRST_BEAT_SECONDS, self._beat_every)
        self.session = session
        return session

    def turn(self) -> bool:
        """Beats, watches and tidies, as far as it is time. False when the session was declared dead by others."""
        now = self._clock.monotonic()
        if now >= self._beat_at:
            alive = self._store.renew(self.session, polled=self._polled())
            # The next beat is planned from before the call: a slow store must not stretch the interval. One that did
            # not reach the store stays due; whoever calls waits a little.
            self._beat_at = now + self._beat_every
            if not alive:
                return False
            self.beaten_at = now
            self._watch()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS * (0.5 + self._draw())
            self._prune()
        if now >= self._repair_at:
            self._repair_at = now + TIDY_SECONDS * (0.5 + self._draw())
            self._repair()
        return True

    def hurry(self) -> None:
        """Makes the next turn beat, whatever the time: somebody doubts that this session lives."""
        self._beat_at = self._clock.monotonic()

    def next_turn(self) -> float:
        """Seconds until `turn` has something to do."""
        return max(0.0, min(self._beat_at, self._tidy_at, self._repair_at) - self._clock.monotonic())

    def leave(self) -> None:
        """Ends the session in good order."""
        self._store.bury(self.session)

    def _watch(self) -> None:
        """Buries sessions whose beat stood still for a whole lease, by this process's own clock.

        No stored time is compared: a clock that jumps, here or there, buries nobody. After a pause of this process
        itself every session gets a whole lease anew.
        """
        seen: dict[str, tuple[int, float]] = {}
        sessions = self._store.sessions()
        now = self._clock.monotonic()  # after the answer: what was read slowly must not seem to be old
        for session in sessions:
            if session.id == self.session:
                continue
            beat, since = self._seen.get(session.id, (-1, now))
            if beat != session.beat or now - self._watched_at > 2 * self._beat_every:
                since = now
            seen[session.id] = (session.beat, since)
            if now - since >= self._lease:
                returned = self._store.bury(session.id, session.beat)
                if returned is not None:
                    seen.pop(session.id)
                    log.warning(
                        "session %s (%s, pid %d on %s) stopped beating; jobs that went back to their queues: %d",
                        session.id,
                        session.name,
                        session.pid,
                        session.host,
                        returned,
                    )
        self._seen = seen
        self._watched_at = now

    def _repair(self) -> None:
        """Checks a few counters; the next ones follow in about a minute."""
        for sentence in self._store.repair():
            log.error("repaired: %s", sentence)

    def _prune(self) -> None:
        """One bite of what is past its keep. After a full one another follows soon, but never close behind.

        In the pause those that wait for the writer's lock come to their turn; and where it took long to get it, the
        pause grows. But a store must not grow for ever, however busy it is: who does not come to the end makes haste,
        with shorter pauses and bites that are larger, however long they take; and looks again soon after it has.
        """
        if self._keep_completed is None:
            return
        began = self._clock.monotonic()
        deleted = self._store.prune(before=self._clock.now() - self._keep_completed, limit=self._bite)
        took = self._clock.monotonic() - began
        is_full = deleted >= self._bite
        if self._full_since is None:
            self._full_since = began
        haste = 1 << min(MOST_HASTE, int((began - self._full_since) / HASTE_SECONDS))
        if is_full:
            self._tidy_at = began + took + max(BITE_PAUSE, BITE_SHARE / haste * took)
        else:
            self._full_since = None
            if haste > 1:
                self._tidy_at = began + took + HASTE_SECONDS
        bite = self._bite // 2 if took > BITE_SECONDS else self._bite * 2
        self._bite = min(max(bite, SMALLEST_BITE * haste), max(LARGEST_BITE, SMALLEST_BITE * haste))
