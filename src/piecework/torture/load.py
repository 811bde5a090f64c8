"""Who enqueues: makes the mix, sends it over the bad line until it is acknowledged, and writes down what was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from piecework.errors import StoreUnavailable
from piecework.ids import new_id
from piecework.job import NewJob, State
from piecework.store import Store
from piecework.torture.dice import Dice
from piecework.torture.jobs import Jobs
from piecework.torture.ledger import Kind, Ledger

T = TypeVar("T")

CHUNK = 40  # jobs in one enqueue, at most
BACKLOG = 600  # unfinished jobs above which nothing is added: work in hand, and no mountain to drain
UNFINISHED = (State.WAITING, State.AVAILABLE, State.RUNNING)


class Load:
    """Keeps the workers busy until the time is over or enough jobs are stored."""

    def __init__(
        self, jobs: Jobs, store: Store, ledger: Ledger, dice: Dice, queue: str, *, enough: Callable[[int], bool]
    ) -> None:
        self._jobs = jobs
        self._store = store
        self._ledger = ledger
        self._dice = dice
        self._queue = queue
        self._enough = enough  # by the number of jobs that are stored, pieces included
        self._halt = threading.Event()
        self.stored = 0
        self.finished = 0

    def run(self) -> None:
        while not self._halt.is_set() and not self.look():
            unfinished = self.stored - self.finished
            if unfinished < BACKLOG:
                for _ in range(4):
                    self._enqueue()
            else:
                self._halt.wait(0.02)

    def stop(self) -> None:
        self._halt.set()

    def look(self) -> bool:
        """Reads the counters; says whether it is enough."""
        counts = insist(self._store.counts)
        own = {state: n for (queue, state), n in counts.items() if queue == self._queue}
        self.stored = sum(own.values())
        self.finished = self.stored - sum(own.get(state, 0) for state in UNFINISHED)
        return self._enough(self.stored)

    def _enqueue(self) -> None:
        """One enqueue of a few jobs; sent again with the same ids until it is acknowledged."""
        pieces = [self._dice.weighed(self._jobs.mix)(self._dice) for _ in range(self._dice.whole(1, CHUNK))]
        jobs = [
            NewJob(
                new_id(),
                p.task,
                p.args,
                p.queue,
                p.priority,
                p.run_at,
                p.delay,
                options=p.options,
                operation=p.operation,
            )
            for p in pieces
        ]
        ids = insist(lambda: self._store.add(jobs))
        self._ledger.note_all([(Kind.ACKNOWLEDGED, id, 0) for id in ids])


def insist(call: Callable[[], T]) -> T:
    """Sends a call again until the store answers."""
    pause = 0.005
    while True:
        try:
            return call()
        except StoreUnavailable:
            time.sleep(pause)
            pause = min(1.0, 2 * pause)
