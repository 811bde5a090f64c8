"""What running jobs say of themselves goes to the store, and the answer tells which of them should stop."""

from __future__ import annotations

from collections.abc import Sequence

from piecework.engine.context import Running
from piecework.engine.slate import Pulse
from piecework.engine.trouble import Trouble
from piecework.errors import StoreError
from piecework.job import Progress
from piecework.store.protocol import Store


class Reporting:
    """One worker's. `trouble` is that of its trips, `aside` that of its calls beside them."""

    def __init__(self, worker: str, store: Store, pulse: Pulse, *, trouble: Trouble, aside: Trouble) -> None:
        self._worker = worker
        self._store = store
        self._pulse = pulse
        self._trouble = trouble
        self._aside = aside

    def report(self, jobs: Sequence[Running]) -> Sequence[str]:
        """Writes the last progress of each, and returns the ids of the worker's jobs that somebody asked to stop.

        While the store is away nothing is lost: what could not be written is written next time, unless there is newer.
        """
        if self._trouble.left() or self._aside.left():
            return ()
        progress: dict[str, Progress] = {}
        for running in jobs:
            if running.progress is not None:
                progress[running.job.id], running.progress = running.progress, None
        try:
            stopping = self._store.report(self._worker, progress)
        except StoreError as error:
            self._aside.meet(error)
            for running in jobs:
                if running.progress is None:  # it has said nothing new meanwhile
                    running.progress = progress.get(running.job.id)
            return ()
        self._aside.over()
        self._pulse.poll()
        return stopping
