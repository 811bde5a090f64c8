"""Where a line begins: remembered for a moment by who takes jobs by the hundred.

Each job that is taken leaves a dead entry at the front of the line's index, until the server vacuums it away. Whoever
looks for the first one that may be taken passes them all, and after some ten thousands of them that costs more than the
taking.
So a process that has just taken a whole claim out of the only line begins the next look where that one ended, and looks
at the whole line again after a moment. What has got into the line before that place (a better priority, a job that was
handed back) is taken that much later: no later than it is behind what a busy worker has fetched ahead.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from piecework.job import Claim

MANY = 100  # jobs in a claim from which on the moment does not matter
MOMENT, LONGEST = 0.05, 1.0  # seconds for which a place is good, at least and at most
SHARE = 5  # … and so many times what it took to look at the whole line


class Place(NamedTuple):
    """The last job that was taken out of a line."""

    queue: str
    priority: int
    run_at: float
    seq: int


START = Place("", -(1 << 31), float("-inf"), -1)  # before everything


class Front:
    """The places where the lines of one store object begin, one for each set of queues that was asked for."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, ...] | None, tuple[Place, float]] = {}

    def place(self, claim: Claim) -> Place | None:
        """Where to begin; None: at the front, and in all lines."""
        found = self._places.get(_key(claim))
        if found is None or claim.limit < MANY or time.monotonic() > found[1]:
            return None
        return found[0]

    def taken(self, claim: Claim, last: Place | None, seconds: float, *, whole: bool) -> None:
        """Notes where a look ended that took so long: at a place of the only line, if the claim was filled."""
        key = _key(claim)
        until = time.monotonic() + min(LONGEST, max(MOMENT, SHARE * seconds))
        if last is None:
            self._places.pop(key, None)
        elif whole:
            self._places[key] = last, until
        elif key in self._places:
            self._places[key] = last, self._places[key][1]


def _key(claim: Claim) -> tuple[str, ...] | None:
    return None if claim.queues is None else tuple(claim.queues)
