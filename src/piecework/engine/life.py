"""One life of a worker in the caller's own process: a session with its beats, and workers that follow each other.

One thread lives it, from its session's begin to its end. Whoever leaves only asks it to end, and waits; so does the end
of the interpreter.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Protocol

from piecework.engine.keeper import Keeper
from piecework.engine.trouble import Trouble
from piecework.engine.worker import Stopping, Worker
from piecework.errors import LeaseLost, StoreError

log = logging.getLogger("piecework.embedded")

LONGEST_RESPITE = 5.0  # seconds before a loop that failed again and again begins anew
EXIT_SECONDS = 2.0  # how long the end of the interpreter waits for a worker that nobody left


class Beside(Protocol):
    """Something that goes on for as long as a worker works."""

    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Life:
    """A session with its beats, and workers that follow each other where one fails."""

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
