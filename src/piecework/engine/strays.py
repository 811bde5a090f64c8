"""Gives back what a worker holds by the store's books and never got: jobs of a fetch that arrived late.

A request may be on its way for long: in a buffer, in a proxy, at a server that is stopped. Its worker gave it up, asked
again, was answered and went on; then the first one arrives and takes jobs. Nobody else may have them while this
worker's session beats, so the worker itself looks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from piecework.clock import Clock
from piecework.job import Answer, Record, State
from piecework.outcome import Settlement
from piecework.store.protocol import Store

log = logging.getLogger("piecework.worker")

LOOK_SECONDS = 5.0
WHY = "it was fetched by a request that came late, and whose answer reached nobody"


class Strays:
    """One worker's look at the books, now and then."""

    def __init__(self, name: str, store: Store, clock: Clock, every: float) -> None:
        self._name = name
        self._store = store
        self._clock = clock
        self._every = min(LOOK_SECONDS, every)
        self._next_at = clock.monotonic() + self._every

    def turn(self, known: Callable[[], Collection[str]]) -> int:
        """Gives back whatever is not among the ids that the worker knows of, when it is time; how many jobs went back.

        To be called while no exchange of this worker is waiting for its answer.
        """
        now = self._clock.monotonic()
        if now < self._next_at:
            return 0
        self._next_at = now + self._every
        held = {fence.id: fence.run for fence in self._store.holds(self._name)}
        strays = held.keys() - set(known())
        if not strays:
            return 0
        back = [_given_back(job, held[job.id]) for job in self._store.get(sorted(strays))]
        n = sum(answer in (Answer.OK, Answer.ALREADY) for answer in self._store.settle(back))
        if n:
            log.warning("%d %s went back: %s", n, "job" if n == 1 else "jobs", WHY)
        return n


def _given_back(job: Record, run: int) -> Settlement:
    """It keeps its place, and no attempt is spent: nobody has begun it."""
    return Settlement(
        job.id,
        run,
        State.AVAILABLE,
        job.attempt,
        job.queue,
        batch=job.batch,
        reason=WHY,
        history="released",
    )
