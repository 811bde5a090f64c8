"""The store's absences, as one process meets them: when to try again, and what is said of it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from piecework.clock import Clock

SHORTEST, LONGEST = 0.1, 2.0  # seconds before the second try, and between the later ones
SHARE = 8  # tries in the time of a lease, at least: one that is over soon must not cost the session
QUIET_SECONDS = 60.0  # after an absence, another is told …
LASTS = 3  # … only where it lasts for so many tries: a server that comes and goes would fill the log


class Pauses:
    """Pauses that double from try to try, with jitter, so that those who wait for one server do not come at once.

    `left` is how long to wait before the next try. May be used by several threads: they share the pause, and the one that
    reaches the store ends it for all.
    """

    def __init__(self, clock: Clock, draw: Callable[[], float] = random.random, *, longest: float = LONGEST) -> None:
        self._clock = clock
        self._draw = draw
        self._longest = longest
        self._lock = threading.Lock()
        self._next_at = 0.0
        self.tries = 0  # in vain, since the store was reached last

    def failed(self) -> None:
        """A try was in vain."""
        with self._lock:
            self.tries += 1
            self._next_at = self._clock.monotonic() + self.delay(self._draw())

    def reached(self) -> None:
        """A try was not."""
        if self.tries:
            with self._lock:
                self.tries = 0

    def left(self) -> float:
        """Seconds before the next try; 0 where there is no trouble, or it is time."""
        return max(0.0, self._next_at - self._clock.monotonic()) if self.tries else 0.0

    def delay(self, draw: float) -> float:
        """Seconds after the last try, by chance between 0 and 1."""
        doubled = SHORTEST * float(1 << min(self.tries - 1, 10))
        return min(self._longest, doubled) * (0.5 + draw / 2)


class Trouble(Pauses):
    """The same, told once when an absence begins and once when it is over."""

    def __init__(
        self,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        *,
        log: logging.Logger,
        longest: float = LONGEST,
    ) -> None:
        super().__init__(clock, draw, longest=longest)
        self._log = log
        self._told = False
        self._quiet_until = clock.monotonic()

    def meet(self, error: Exception) -> None:
        """A try was in vain: this is why."""
        self.failed()
        if self._told or (self.tries < LASTS and self._clock.monotonic() < self._quiet_until):
            return
        self._told = True
        self._log.warning("the store is not available, trying again until it is: %s", error)

    def over(self) -> None:
        """The store was reached."""
        tries = self.tries
        if not tries:
            return
        self.reached()
        if self._told:
            self._told = False
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
            self._log.info("the store is available again after %d %s", tries, "try" if tries == 1 else "tries")


def longest_pause(lease: float) -> float:
    """Seconds between two tries of whoever keeps a session, or works for one."""
    return min(LONGEST, lease / SHARE)
