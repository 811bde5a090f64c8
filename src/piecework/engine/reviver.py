"""Brings parked jobs back when code arrives that can run them: a task that was unknown, arguments that did not fit.

In a rolling deployment old workers park what only new ones know; every worker looks through what is parked, a bite at a
time, and retries what it could run itself. Jobs that were parked because they killed their workers are left to
somebody.
"""

from __future__ import annotations

import logging

from piecework.clock import Clock
from piecework.engine.runner import Runner
from piecework.job import Filter, State
from piecework.store.protocol import Store

log = logging.getLogger("piecework.worker")

REVIVE_SECONDS = 5.0
BITE = 200


class Reviver:
    """One worker's walk through what is parked."""

    def __init__(self, runner: Runner, store: Store, clock: Clock) -> None:
        self._runner = runner
        self._store = store
        self._clock = clock
        self._after: str | None = None
        self._next_at = clock.monotonic()

    def turn(self) -> int:
        """Looks at one bite when it is time, and says how many jobs came back."""
        now = self._clock.monotonic()
        if now < self._next_at:
            return 0
        self._next_at = now + REVIVE_SECONDS
        if not any(n for (_, state), n in self._store.counts().items() if state == State.PARKED):
            return 0
        found = self._store.find(Filter(state=State.PARKED), after=self._after, limit=BITE)
        self._after = found[-1].id if len(found) == BITE else None
        ids = tuple(record.id for record in found if self._runner.could_run(record))
        back = self._store.retry(Filter(ids=ids, state=State.PARKED)) if ids else 0
        if back:
            log.info("%d parked jobs can be run by this worker's code; they are back in their queues", back)
        return back
