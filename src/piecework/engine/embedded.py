"""A worker inside the caller's own process: for web processes, tests, scripts, and programs that are one process.

Its beat is kept by a thread. A thread cannot beat while C code holds the interpreter lock for longer than the lease;
where jobs may do that, run `piecework work`, whose beat is another process's.

Each time that it is entered it begins a life of its own, which is told in `life`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from piecework.engine.keeper import Keeper
from piecework.engine.life import Beside, Life
from piecework.engine.trouble import Trouble, longest_pause
from piecework.engine.worker import Stopping, Worker
from piecework.errors import UsageError

if TYPE_CHECKING:
    from piecework.clock import Clock
    from piecework.config import Settings
    from piecework.engine.process import PoolSettings
    from piecework.registry import Registry
    from piecework.store.protocol import Store

log = logging.getLogger("piecework.embedded")

R = TypeVar("R")


class EmbeddedWorker:
    """Runs jobs on threads of this process while the block runs; made by ``app.worker(…)``.

    Leaving the block takes nothing new and finishes what runs, for up to `shutdown_timeout` seconds; what runs longer
    is handed back unspent and will run again, though its thread goes on until it ends by itself. Used as ``async with``
    it waits on threads of its own, never on the loop. After it was left it may be entered again.

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
        shutdown_timeout: float = 25.0,
        beside: Callable[[], Beside] | None = None,
    ) -> None:
        self._keeper = partial(
            Keeper, store, clock, name=name, lease=settings.lease, keep_completed=settings.keep_completed_seconds
        )
        self._worker = partial(
            Worker,
            registry,
            store,
            clock,
            concurrency=concurrency,
            queues=queues,
            burst=burst,
            max_payload=settings.max_payload,
            lease=settings.lease,
            processes=processes,
        )
        self._trouble = partial(Trouble, clock, log=log, longest=longest_pause(settings.lease))
        self._shutdown_timeout = shutdown_timeout
        self._lives = partial(Life, beside=beside)
        self._entering = threading.Lock()
        self._life: Life | None = None

    def run(self) -> int:
        """Works in this thread until stopped (or, with `burst`, until nothing is due); how many runs it settled."""
        life = self._begin()
        try:
            life.run()
        finally:
            self._life = None
        return life.settled

    def stop(self) -> None:
        """Takes nothing new, finishes what runs. May be called from any thread."""
        life = self._life
        if life is not None and life.is_here():
            life.stop(Stopping.DRAIN)

    # ── entering and leaving ─────────────────────────────────────────────────────────────────────

    def __enter__(self) -> EmbeddedWorker:
        life = self._begin()
        try:
            life.start()
        except BaseException:
            self._life = None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        life, self._life = self._life, None
        if life is not None:
            life.leave(self._shutdown_timeout)

    async def __aenter__(self) -> EmbeddedWorker:
        entered = _on_a_thread(self.__enter__)
        try:
            return await asyncio.wrap_future(entered)
        except asyncio.CancelledError:
            _on_a_thread(lambda: entered.result().__exit__(None, None, None))  # whoever wanted it is gone
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.wrap_future(_on_a_thread(lambda: self.__exit__(kind, error, trace)))

    def _begin(self) -> Life:
        """A new life, enlisted in the store. Raises where the store cannot be reached: nothing would run."""
        with self._entering:
            if self._life is not None and self._life.is_here():
                raise UsageError("this worker runs already; leave it before it is entered again, or make a second one")
            self._life = life = self._lives(self._keeper, self._worker, self._trouble())
        try:
            life.enlist()
        except BaseException:
            self._life = None
            raise
        return life


def _on_a_thread(work: Callable[[], R]) -> Future[R]:
    """Runs what blocks on a thread of its own, to its end, whatever becomes of those who wait for it."""
    ended: Future[R] = Future()
    ended.set_running_or_notify_cancel()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, name="piecework-edge", daemon=True).start()
    return ended
