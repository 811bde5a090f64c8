"""A worker inside the caller's own process: for web processes, tests, scripts, and programs that are one process.

Its beat is kept by a thread. A thread cannot beat while C code holds the interpreter lock for longer than the lease;
where jobs may do that, run `piecework work`, whose beat is another process's.

One thread lives one life of the worker, from its session's begin to its end. Whoever leaves only asks it to end, and
waits; so does the end of the interpreter.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from piecework.engine.keeper import Keeper
from piecework.engine.trouble import Trouble, longest_pause
from piecework.engine.worker import Stopping, Worker
from piecework.errors import LeaseLost, StoreError, UsageError

if TYPE_CHECKING:
    from piecework.clock import Clock
    from piecework.config import Settings
    from piecework.engine.processes import PoolSettings
    from piecework.registry import Registry
    from piecework.store.protocol import Store

log = logging.getLogger("piecework.embedded")

R = TypeVar("R")

LONGEST_RESPITE = 5.0  # seconds before a loop that failed again and again begins anew
EXIT_SECONDS = 2.0  # how long the end of the interpreter waits for a worker that nobody left


class Beside(Protocol):
    """Something that goes on for as long as a worker works."""

    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class EmbeddedWorker:
    """Runs jobs on threads of this process while the block runs; made by ``app.worker(…)``.

    Leaving the block takes nothing new and finishes what runs, for up to `shutdown_timeout` seconds; what runs longer is
    handed back unspent and will run again, though its thread goes on until it ends by itself. Used as ``async with`` it
    waits on threads of its own, never on the loop. After it was left it may be entered again.

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
        self._lives = partial(_Life, beside=beside)
        self._entering = threading.Lock()
        self._life: _Life | None = None

    def run(self) -> int:
        """Works in this very thread until stopped (or, with `burst`, until nothing is due); how many runs it settled."""
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

    def _begin(self) -> _Life:
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


class _Life:
    """One life of an embedded worker: a session with its beats, and workers that follow each other where one fails."""

    def __init__(
        self,
        keeper: Callable[..., Keeper],
        worker: Callable[..., Worker],
        trouble: Trouble,
        beside: Callable[[], Beside] | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._keeper = keeper(polled=self._polled_ago)
        self._make_worker = partial(worker, trouble=trouble)
        self._trouble = trouble.another()  # of the beat, and of who begins anew
        self._beside = beside
        self._worker: Worker | None = None
        self._stopping = Stopping.NO
        self._stopped = threading.Event()  # somebody asked for the end
        self._over = threading.Event()  # no beat is needed any more
        self._settled_before = 0
        self._thread = threading.Thread(target=self.run, name="piecework-embedded", daemon=True)

    @property
    def settled(self) -> int:
        return self._settled_before + (self._worker.settled if self._worker is not None else 0)

    def _polled_ago(self) -> float | None:
        return None if self._worker is None else self._worker.pulse.polled_ago()

    # ── from outside ─────────────────────────────────────────────────────────────────────────────

    def is_here(self) -> bool:
        """Whether it is this process's. A fork copies the object, but not the threads; the session is the parent's."""
        return self._pid == os.getpid()

    def enlist(self) -> None:
        """Begins a session, with a worker of its own."""
        session = self._keeper.enlist()
        worker = self._make_worker(name=f"{session}.1")
        worker.beaten(self._keeper.beaten_at)
        if self._worker is not None:
            self._settled_before += self._worker.settled
        self._worker = worker
        if self._stopping is not Stopping.NO:  # asked before this worker was there to hear it
            worker.stop(self._stopping)

    def start(self) -> None:
        """Works on a thread; the end of the interpreter ends it."""
        atexit.register(self._exit)
        try:
            self._thread.start()
        except BaseException:
            atexit.unregister(self._exit)
            self._leave()
            raise

    def stop(self, how: Stopping) -> None:
        if how.value > self._stopping.value:
            self._stopping = how
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop(how)

    def leave(self, timeout: float) -> None:
        """Finishes what runs, for as long as the timeout, then leaves it to be run again."""
        if not self.is_here():
            return
        atexit.unregister(self._exit)
        self.stop(Stopping.DRAIN)
        try:
            self._thread.join(timeout)
        finally:  # Ctrl-C while waiting must not leave the session behind either
            if self._thread.is_alive():
                self._hand_back(timeout)

    def _hand_back(self, timeout: float) -> None:
        running = self._worker.running() if self._worker is not None else []
        ids = ", ".join(running[:10]) + (", …" if len(running) > 10 else "") or "what the store did not take"
        log.warning("left before they ended (shutdown timeout %g s); handed back, to run again: %s", timeout, ids)
        self.stop(Stopping.NOW)
        self._thread.join()

    def _exit(self) -> None:
        """Nobody left the block, and the interpreter ends: hands back what runs, as far as that is quickly done."""
        if self.is_here():
            self.stop(Stopping.NOW)
            self._thread.join(EXIT_SECONDS)

    # ── on the thread ────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Beats and works until stopped, and ends the session."""
        beats = threading.Thread(target=self._beat, name="piecework-beat", daemon=True)
        beats.start()
        try:
            with self._beside() if self._beside is not None else nullcontext():
                self._work()
        finally:
            self._over.set()
            beats.join()
            self._leave()

    def _work(self) -> None:
        failures = 0
        while True:
            assert self._worker is not None
            before = self._worker.settled
            try:
                self._worker.run()
                return
            except LeaseLost:
                log.warning("this session was declared dead by others; starting anew")
            except Exception:
                failures = failures + 1 if self._worker.settled == before else 1
                log.exception("the worker's own loop failed; its jobs go back, and it starts anew")
                self._stopped.wait(min(LONGEST_RESPITE, 0.05 * 2 ** min(failures, 10)))
            if not self._start_anew():
                return

    def _start_anew(self) -> bool:
        """A new session once the store takes it; the old one's jobs go back. False when stopped meanwhile."""
        while not self._stopped.wait(self._trouble.left()):
            try:
                self._keeper.leave()
                self.enlist()
            except StoreError as error:
                self._trouble.meet(error)
            else:
                self._trouble.over()
                return True
        return False

    def _beat(self) -> None:
        while not self._over.wait(max(self._trouble.left(), min(1.0, self._keeper.next_turn() + 0.01))):
            worker = self._worker
            assert worker is not None
            if not worker.name.startswith(f"{self._keeper.session}."):
                continue  # a new session has been begun, and its worker is made just now
            asks = not self._keeper.next_turn()
            try:
                if not self._keeper.turn():
                    worker.buried()
                    continue
                if asks:
                    self._trouble.over()
                worker.beaten(self._keeper.beaten_at)
            except StoreError as error:
                self._trouble.meet(error)
            except Exception:
                log.exception("keeping the session failed; it is tried again")
                self._over.wait(1.0)

    def _leave(self) -> None:
        try:
            self._keeper.leave()
        except StoreError as error:
            log.warning("the store could not be told that this session ended; others will notice in a lease: %s", error)


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
