"""The outbox: jobs stored in the caller's transaction where the store itself cannot be in it, and carried over.

An outbox is a piecework store of its own, in the caller's database. A job that is to be added within a transaction there
is kept as the argument of a job whose only work is to add it to the app's store. So the outbox has what every store has:
it survives the death of whoever carries, says what it holds, and keeps what cannot be carried.

The job has its id from the first, so that a carrier who dies between the adding and the note of it does no harm: the
next one adds the same job, which is there already.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.engine.trouble import Trouble
from piecework.errors import JobNotFound, StoreError
from piecework.job import NewJob, State
from piecework.store import Store
from piecework.verdicts import Snooze

if TYPE_CHECKING:
    from piecework.app import Piecework
    from piecework.engine.embedded import EmbeddedWorker

log = logging.getLogger("piecework.outbox")

CARRY, QUEUE = "piecework.carry", "outbox"
KEEP_CARRIED = 1.0  # days for which it is still known what was carried
CARRIERS = 8  # jobs carried at the same time, by one process
AGAIN = 2.0  # seconds after which a store that could not be reached is tried again
LEAVE_SECONDS = 5.0  # for what is being carried, when a worker ends

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(str).decode


class Outbox:
    """The jobs of an app that wait in another database to be carried to its store. `box` is an app on that database."""

    def __init__(self, box: Piecework, store: Store, draw: Callable[[], float] = random.random) -> None:
        self.box = box
        self._draw = draw

        @box.task(name=CARRY, queue=QUEUE, attempts=1)
        def carry(job: NewJob) -> str:
            try:
                (stored,) = store.add([job])
            except StoreError as error:  # it is away, or refuses everybody: a password that is changed, a missing right
                raise Snooze(AGAIN * (0.5 + draw()), str(error)) from error
            return stored

    # ── adding ───────────────────────────────────────────────────────────────────────────────────

    def add(self, jobs: Sequence[NewJob], within: Any) -> list[str]:
        """Keeps jobs in the caller's transaction. What a unique key finds is seen only when they are carried."""
        return self.box.store.add(kept(jobs), within=within)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────

    def carried(self, id: str) -> str | None:
        """Under which id a job was carried to the store; None where it is still to be.

        Raises `JobNotFound` where the outbox does not know it, or it could not be carried.
        """
        found = self.box.store.get([id])
        if not found:
            raise JobNotFound(f"no job {id}: it never existed, its transaction has not committed, or it was pruned")
        if found[0].state is State.COMPLETED:
            return _decode(found[0].result or "null")
        if found[0].state in (State.FAILED, State.CANCELLED):
            error = found[0].error
            why = f"{error.type}: {error.message}" if error else found[0].reason or "no reason was given"
            raise JobNotFound(
                f"job {id} is still in the outbox {self.box.store.url}, since it could not be carried over: {why}; "
                f"see piecework jobs --store {self.box.store.url}"
            )
        return None

    # ── carrying ─────────────────────────────────────────────────────────────────────────────────

    def carrier(self, *, burst: bool = False) -> Carrier:
        """Carries jobs to the store for as long as a worker works; for one in `burst`, what there is when it begins."""
        worker = self.box.worker(
            concurrency=CARRIERS, queues=(QUEUE,), name="outbox", burst=burst, shutdown_timeout=LEAVE_SECONDS
        )
        return Carrier(worker, Trouble(self.box.clock, log=log), burst)

    def close(self) -> None:
        self.box.close()


class Carrier:
    """A worker on the outbox, on a thread. The database of the outbox may be away for a while; the app's work goes on."""

    def __init__(self, worker: EmbeddedWorker, trouble: Trouble, burst: bool) -> None:
        self._worker = worker
        self._trouble = trouble
        self._burst = burst
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="piecework-outbox", daemon=True)

    def __enter__(self) -> Carrier:
        if self._burst:
            self._retry(self._worker.run)
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._burst:
            self._stopping.set()
            self._thread.join(2 * LEAVE_SECONDS)

    def _run(self) -> None:
        self._retry(self._work)

    def _work(self) -> None:
        with self._worker:
            self._trouble.over()
            self._stopping.wait()

    def _retry(self, work: Callable[[], object]) -> None:
        while not self._stopping.is_set():
            try:
                work()
                return
            except StoreError as error:
                self._trouble.meet(error)
                self._stopping.wait(self._trouble.left())


def kept(jobs: Sequence[NewJob]) -> list[NewJob]:
    """What is stored of them in the outbox: each under its own id, so that it can be asked for.

    What has to be begun within some seconds is not carried after them.
    """
    return [
        NewJob(
            job.id, CARRY, _encode({"job": job}).decode(), QUEUE,
            expires=None if job.expires is None else job.expires + (job.delay or 0.0), expires_at=job.expires_at,
        )
        for job in jobs
    ]  # fmt: skip
