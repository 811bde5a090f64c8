"""A worker inside the caller's own process: for tests, scripts, and programs that are one process.

Its beat is kept by a thread. A thread cannot beat while C code holds the interpreter lock for longer than the lease;
where jobs may do that, run `piecework work`, whose beat is another process's.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from piecework.engine.keeper import Keeper
from piecework.engine.worker import Stopping, Trouble, Worker
from piecework.errors import LeaseLost, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piecework.clock import Clock
    from piecework.config import Settings
    from piecework.engine.processes import PoolSettings
    from piecework.registry import Registry
    from piecework.store.protocol import Store

log = logging.getLogger("piecework.embedded")


class EmbeddedWorker:
    """Runs jobs on threads of this process while the block runs; leaving it finishes what runs.

    Example::

        with app.worker(concurrency=4):
            job.result(timeout=10)
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        clock: Clock,
        settings: Settings,
        *,
        concurrency: int,
        queues: Sequence[str] | None,
        burst: bool = False,
        processes: PoolSettings | None = None,
        name: str = "embedded",
    ) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._settings = settings
        self._concurrency = concurrency
        self._queues = queues
        self._burst = burst
        self._processes = processes
        self._keeper = Keeper(
            store, clock, name=name, lease=settings.lease, keep_completed=settings.keep_completed_seconds
        )
        self._worker: Worker | None = None
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self) -> int:
        """Works in this very thread until stopped (or, with `burst`, until nothing is due); how many runs it settled."""
        self._enlist()
        beats = threading.Thread(target=self._beat, name="piecework-beat", daemon=True)
        beats.start()
        try:
            self._work()
        finally:
            self._ended.set()
            beats.join()
            self._leave()
        assert self._worker is not None
        return self._worker.settled

    def stop(self) -> None:
        """Takes nothing new, finishes what runs."""
        if self._worker is not None:
            self._worker.stop(Stopping.DRAIN)

    def __enter__(self) -> EmbeddedWorker:
        self._enlist()
        for target in (self._beat, self._work):
            thread = threading.Thread(target=target, name=f"piecework-{target.__name__.strip('_')}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        beats, work = self._threads
        work.join()
        self._ended.set()
        beats.join()
        self._leave()

    def _leave(self) -> None:
        try:
            self._keeper.leave()
        except StoreError as error:
            log.warning("the store could not be told that this session ended; others will notice in a lease: %s", error)

    def _enlist(self) -> None:
        self._ended.clear()
        self._begin(self._keeper.enlist())

    def _begin(self, session: str) -> None:
        self._worker = Worker(
            self._registry,
            self._store,
            self._clock,
            name=f"{session}.1",
            concurrency=self._concurrency,
            queues=self._queues,
            burst=self._burst,
            max_payload=self._settings.max_payload,
            lease=self._settings.lease,
            processes=self._processes,
        )

    def _work(self) -> None:
        while True:
            assert self._worker is not None
            try:
                self._worker.run()
                return
            except LeaseLost:
                log.warning("this session was declared dead by others; starting anew")
                self._begin(self._keeper.enlist())

    def _beat(self) -> None:
        trouble = Trouble()
        while not self._ended.wait(min(1.0, self._keeper.next_turn() + 0.01)):
            try:
                self._keeper.turn()
                trouble.over()
            except StoreError as error:
                trouble.meet(error)
