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
LASTS_SECONDS = 2.0  # … only where it lasts: a server that comes and goes would fill the log


class Pauses:
    """Pauses that double from try to try, with jitter, so that those who wait for one server do not come at once.

    `left` is how long to wait before the next try.
    """

    def __init__(self, clock: Clock, draw: Callable[[], float] = random.random, *, longest: float = LONGEST) -> None:
        self._clock = clock
        self._draw = draw
        self._longest = longest
        self._next_at = 0.0
        self.tries = 0  # in vain, since the store was reached last

    def failed(self) -> None:
        """A try was in vain."""
        self.tries += 1
        self._next_at = self._clock.monotonic() + self.delay(self._draw())

    def reached(self) -> None:
        """A try was not."""
        self.tries = 0

    def left(self) -> float:
        """Seconds before the next try; 0 where there is no trouble, or it is time."""
        return max(0.0, self._next_at - self._clock.monotonic()) if self.tries else 0.0

    def delay(self, draw: float) -> float:
        """Seconds after the last try, by chance between 0 and 1."""
        doubled = SHORTEST * float(1 << min(self.tries - 1, 10))
        return min(self._longest, doubled) * (0.5 + draw / 2)


class Voice:
    """What one process says of its store's absences, whichever of its loops met them.

    Told once when the first loop meets one, and once when none is left that has not reached the store since.
    """

    def __init__(self, clock: Clock, log: logging.Logger) -> None:
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._missing: set[int] = set()  # the loops that have not reached the store since
        self._tries = 0
        self._since = 0.0
        self._told = False
        self._quiet_until = clock.monotonic()

    def missed(self, loop: int, error: Exception) -> None:
        now = self._clock.monotonic()
        with self._lock:
            self._since = self._since if self._missing else now
            self._missing.add(loop)
            self._tries += 1
            if self._told or (now < self._quiet_until and now - self._since < LASTS_SECONDS):
                return
            self._told = True
        self._log.warning("the store is not available, trying again until it is: %s", error)

    def reached(self, loop: int) -> None:
        if loop not in self._missing:
            return
        with self._lock:
            self._missing.discard(loop)
            if self._missing:
                return
            tries, self._tries = self._tries, 0
            if not self._told:
                return
            self._told = False
            self._quiet_until = self._clock.monotonic() + QUIET_SECONDS
        self._log.info("the store is available again after %d %s", tries, "try" if tries == 1 else "tries")


class Trouble(Pauses):
    """The pauses of one loop, and what is said of them."""

    def __init__(
        self,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        *,
        log: logging.Logger,
        longest: float = LONGEST,
        voice: Voice | None = None,
        loop: int | None = None,
    ) -> None:
        super().__init__(clock, draw, longest=longest)
        self._log = log
        self._voice = voice or Voice(clock, log)
        self._loop = id(self) if loop is None else loop

    def another(self) -> Trouble:
        """That of another loop of the same process: it has pauses of its own, and the two speak with one voice."""
        return Trouble(self._clock, self._draw, log=self._log, longest=self._longest, voice=self._voice)

    def aside(self) -> Trouble:
        """That of calls beside this loop's own, with pauses of their own: when this loop gets through, the store is there."""
        return Trouble(
            self._clock, self._draw, log=self._log, longest=self._longest, voice=self._voice, loop=self._loop
        )

    def meet(self, error: Exception) -> None:
        """A try was in vain: this is why."""
        self.failed()
        self._voice.missed(self._loop, error)

    def over(self) -> None:
        """The store was reached."""
        self.reached()
        self._voice.reached(self._loop)


def longest_pause(lease: float) -> float:
    """Seconds between two tries of whoever keeps a session, or works for one."""
    return min(LONGEST, lease / SHARE)
