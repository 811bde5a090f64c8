"""The outbox: jobs stored in the caller's transaction where the store itself cannot be in it, and carried over.

An outbox is a piecework store of its own, in the caller's database. A job that is to be added within a transaction
there is kept as the argument of a job whose only work is to add it to the app's store. So the outbox has what every
store has: it survives the death of whoever carries, says what it holds, and keeps what cannot be carried.

The job has its id from the first, so that a carrier who dies between the adding and the note of it does no harm: the
next one adds the same job, which is there already.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.engine.trouble import Trouble
from piecework.errors import JobNotFound, StoreError
from piecework.job import Filter, NewJob, Record, State
from piecework.store import Store
from piecework.verdicts import Snooze

if TYPE_CHECKING:
    from piecework.app import Piecework
    from piecework.engine.embedded import EmbeddedWorker

log = logging.getLogger("piecework.outbox")

CARRY, QUEUE = "piecework.carry", "outbox"
KEEP_CARRIED = 1.0  # days for which it is still known what was carried
CARRIERS = 8  # jobs carried at the same time, by one process
LONGEST_PAUSE = 10.0  # seconds after which a store that could not be reached is tried again, at the latest
IN_HAND_SECONDS = 5.0  # for which whoever cancels a job waits for one who is carrying it
LEAVE_SECONDS = 5.0  # for what is being carried, when a worker ends


class _Kept(msgspec.Struct, frozen=True):
    """The arguments under which a job is kept."""

    job: NewJob


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(str).decode
_decode_kept = msgspec.json.Decoder(_Kept).decode


class Outbox:
    """The jobs of an app that wait in another database to be carried to its store. `box` is an app on that database."""

    def __init__(self, box: Piecework, store: Store, draw: Callable[[], float] = random.random) -> None:
        self.box = box
        self._store = store
        self._draw = draw
        self._trouble = Trouble(box.clock, draw, log=log, longest=LONGEST_PAUSE)
        box.task(name=CARRY, queue=QUEUE, attempts=1)(self._carry)

    def _carry(self, job: NewJob) -> str:
        """Adds a job to the store. While that is away one of many tries, and the others wait with it."""
        if self._trouble.left():
            raise self._later("the store is not available")
        try:
            (stored,) = self._store.add([job])
        except (
            StoreError
        ) as error:  # it is away, or refuses everybody: another password, a missing right, another version
            if not self._trouble.left():
                self._trouble.meet(error)
            raise self._later(str(error)) from error
        self._trouble.over()
        return stored

    def _later(self, why: str) -> Snooze:
        return Snooze(self._trouble.left() * (1.0 + self._draw()), why)

    # ── adding ───────────────────────────────────────────────────────────────────────────────────

    def add(self, jobs: Sequence[NewJob], within: Any) -> list[str]:
        """Keeps jobs in the caller's transaction. What a unique key finds is seen only when they are carried."""
        return self.box.store.add(kept(jobs), within=within)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────

    def look(self, id: str) -> Record | str:
        """A job that is not in the store: as it waits here, or ended here; or the id under which it was carried over.

        Raises `JobNotFound` where the outbox does not know it, or it could not be carried.
        """
        row = self._row(id)
        if row is None:
            raise JobNotFound(f"no job {id}: it never existed, its transaction has not committed, or it was pruned")
        if row.state is State.COMPLETED:
            return _decode(row.result or "null")
        if row.state is State.FAILED:
            why = f"{row.error.type}: {row.error.message}" if row.error else "no reason was given"
            raise JobNotFound(
                f"job {id} is still in the outbox {self.box.store.url}, since it could not be carried over: {why}; "
                f"see piecework jobs --store {self.box.store.url}"
            )
        return _as_job(row)

    def _row(self, id: str) -> Record | None:
        found = self.box.store.get([id])
        return found[0] if found and found[0].task == CARRY else None

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, id: str, *, reason: str, by: str) -> bool | str:
        """Cancels a job before it is carried over: it never is. False if it ended here; its id, where it was carried.

        A job that somebody has in hand is asked for until he has put it down, for up to five seconds: it is carried
        then, or comes back, which the request turns into its end.
        """
        until, asked = time.monotonic() + IN_HAND_SECONDS, False
        while (row := self._row(id)) is not None:
            if row.state is State.COMPLETED:
                return _decode(row.result or "null")
            if row.state.finished or (asked and time.monotonic() > until):
                return asked
            if not row.stopping:
                asked = self.box.store.cancel(_only(id), reason=reason, by=by) > 0 or asked
            else:
                asked = True
                time.sleep(IN_HAND_SECONDS / 500)
        return False

    def retry(self, id: str, *, reason: str, by: str, resume: bool = False) -> bool:
        """Brings back a job that was cancelled before it was carried over, or could not be."""
        return self.box.store.retry(_only(id), by=by, reason=reason, resume=resume) > 0

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
    """A worker on the outbox, on a thread.

    The database of the outbox may be away for a while; the app's work goes on.
    """

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
            job.id, CARRY, _encode(_Kept(job)).decode(), QUEUE,
            expires=None if job.expires is None else job.expires + (job.delay or 0.0), expires_at=job.expires_at,
        )
        for job in jobs
    ]  # fmt: skip


def _as_job(row: Record) -> Record:
    """The job that is kept in a row of the outbox: it waits, where it was not cancelled."""
    job = _decode_kept(row.args).job
    ended = row.state is State.CANCELLED
    waits = "in the outbox: it has not been carried to the store yet" + (f" ({row.reason})" if row.reason else "")
    return Record(
        id=job.id, task=job.task, queue=job.queue, priority=job.priority, args=job.args,
        state=State.CANCELLED if ended else State.WAITING, reason=row.reason if ended else waits,
        run_at=row.created_at + (job.delay or 0.0) if job.run_at is None else job.run_at, run=0, attempt=0, crashes=0,
        created_at=row.created_at, finished_at=row.finished_at if ended else None,
        key=job.key, options=job.options, expires_at=row.expires_at, identity=job.identity, tags=job.tags,
        cursor=None if job.operation is None else job.operation.cursor,
        stopping=row.stopping, stopped_by=row.stopped_by, stopped_at=row.stopped_at,
    )  # fmt: skip


def _only(id: str) -> Filter:
    return Filter(ids=(id,), task=CARRY)
