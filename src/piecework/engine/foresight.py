"""How many jobs a worker fetches ahead of the free places: many where they proved short, none where they are long."""

from __future__ import annotations

from piecework.clock import Clock
from piecework.engine.pool import FLUSH

MAX_AHEAD = 2 * FLUSH  # jobs fetched beyond what runs
AHEAD_SECONDS = 0.06  # … but no more than the pool was seen to run in this time, half of it while a trip is under way
GROWTH = 8  # … times what it was, or the places: no judgement over so short a time is trusted further
SHORT_SIGHT, LONG_SIGHT = 0.005, 0.25  # seconds over which the speed of jobs is judged


class Foresight:
    """Learns from how fast jobs were seen to end."""

    def __init__(self, clock: Clock, places: int) -> None:
        self._clock = clock
        self._places = places
        self._ended = 0  # jobs, since …
        self._since = clock.monotonic()
        self.ahead = 0

    def learn(self, ended: int) -> None:
        """Judges over many short jobs or a good while, never by a few that happened to end together."""
        self._ended += ended
        span = self._clock.monotonic() - self._since
        if (self._ended >= 4 * self._places and span >= SHORT_SIGHT) or span >= LONG_SIGHT:
            fit = int(self._ended / span * AHEAD_SECONDS)
            self.ahead = min(MAX_AHEAD, fit, GROWTH * max(self.ahead, self._places))
            self._ended, self._since = 0, self._clock.monotonic()

    def forget(self) -> None:
        """Jobs turned out long: nothing is fetched ahead until some prove short again."""
        self.ahead = 0
