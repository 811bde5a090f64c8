"""Ends a worker process whose interpreter a job holds well past its timeout: such a process cannot give the job up itself.

On a thread of its own. The supervisor's waits for the store where another holds its lock, and that other may be the
very process that is held: the job took the interpreter while a thread beside it was writing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from piecework.clock import Clock
from piecework.engine.child import Child

log = logging.getLogger("piecework.supervisor")

HELD_SECONDS = 5.0  # after its timeout, how long a job may hold its process before that is killed
LOOK_SECONDS = 0.5  # between two looks
ASLEEP_SECONDS = 2.5  # looks that lie further apart show that this process itself stood still


class Warden:
    """Looks at the slates of a supervisor's worker processes twice a second."""

    def __init__(self, children: Callable[[], Sequence[Child]], clock: Clock) -> None:
        self._children = children
        self._clock = clock
        self._looked_at = self._awake_since = clock.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="piecework-warden", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After this no process is ended."""
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Kills each process that one of its jobs holds, and notes on the child which jobs were past their time.

        Where the supervisor itself stood still, the workers did too (a frozen container, a stopped machine): they get
        the whole time anew to notice what is late.
        """
        now = self._clock.monotonic()
        if now - self._looked_at > ASLEEP_SECONDS:
            self._awake_since = now
        self._looked_at = now
        if now - self._awake_since < HELD_SECONDS:
            return
        for child in self._children():
            self._judge(child, now - HELD_SECONDS)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    @staticmethod
    def _judge(child: Child, late: float) -> None:
        try:
            held = child.slate.overdue(late)
        except ValueError:  # it was buried just now, and its slate is closed
            return
        if not held or child.blamed is not None:
            return
        child.blamed = held
        log.error(
            "worker process %d is held by job %s, well past its timeout; it is killed",
            child.process.pid,
            ", ".join(held),
        )
        child.process.kill()
