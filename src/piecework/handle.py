"""A handle to one stored job: what became of it, its result once it has ended, and what is done to it by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from piecework import aio
from piecework.byhand import RETRIABLE, why_and_who, why_not_back
from piecework.errors import JobCancelled, JobFailed, JobNotFound, JobParked, ResultTimeout, UsageError
from piecework.failures import ErrorNode, error_tree
from piecework.job import (
    AttemptRecord,
    BatchRecord,
    ErrorInfo,
    Filter,
    Progress,
    Record,
    State,
    as_utc,
    check_asked,
)
from piecework.patience import Patience

if TYPE_CHECKING:
    from piecework.app import Piecework

R = TypeVar("R")

PAGE = 200
_status = msgspec.json.Decoder(dict[str, Any]).decode
_plain = msgspec.json.Decoder().decode


class Job(Generic[R]):
    """A handle to one stored job. Every property reads the store anew; `record()` reads them all at once.

    Made by `later`, and by `app.jobs`. What reads raises `JobNotFound` where there is no such job (any more).

    Example::

        job = send_report.later(42)
        job.state                    # 'available'
        job.result(timeout=10)       # waits, and returns what send_report returned
    """

    def __init__(self, app: Piecework, id: str, known: Record | None = None) -> None:
        self._app = app
        self._known = known
        check_asked("an id", id)
        self._held = app.held.get(id)
        self.id = str.__str__(id)  # of a subclass nobody knows whether a store takes it

    def __repr__(self) -> str:
        return f"<job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def record(self) -> Record:
        """Everything the store keeps of the job, now. Raises `JobNotFound`.

        A job that is still in the app's outbox is `waiting`, with that reason.
        """
        if (record := self._stored()) is not None:
            return record
        found = self._carried_to()
        if not isinstance(found, str):
            return found
        self.id = found  # that of another job, where that one had its unique key before
        if (record := self._stored()) is None:
            raise JobNotFound(f"no job {self.id}: it never existed, or was pruned")
        return record

    def _stored(self) -> Record | None:
        """The job as the store has it; None where it has none of this id."""
        if found := self._app.store.get([self.id]):
            self._known = found[0]
        return found[0] if found else None

    def _carried_to(self) -> Record | str:
        """The id under which the job came to the store, or what the outbox keeps of it. Raises `JobNotFound`."""
        if self._held is not None:
            if (stored := self._held.stored_as(self.id)) is None:
                raise JobNotFound(self._held.why_not(self.id))
            return stored
        return self.id if self._app.outbox is None else self._app.outbox.look(self.id)

    @property
    def known(self) -> Record:
        """What was last read of the job; reads it if nothing was."""
        return self._known or self.record()

    @property
    def state(self) -> State:
        """Where the job stands, now."""
        return self.record().state

    @property
    def task(self) -> str:
        """The name of its task."""
        return self.known.task

    @property
    def queue(self) -> str:
        """The queue that it was last seen in."""
        return self.known.queue

    @property
    def arguments(self) -> Any:
        """The call's arguments as they are stored: plain JSON values by the names of the parameters."""
        return _plain(self.known.args)

    @property
    def identity(self) -> str | None:
        """The business key by which its status is asked for, as text."""
        return self.known.identity

    @property
    def tags(self) -> tuple[str, ...]:
        """The words by which it is found."""
        return self.known.tags

    @property
    def run_at(self) -> datetime:
        """When the job is or was due, aware UTC."""
        at = as_utc(self.record().run_at)
        assert at is not None
        return at

    @property
    def error(self) -> ErrorInfo | None:
        """The last error, as text."""
        return self.record().error

    @property
    def progress(self) -> Progress | None:
        """What the job last said of itself; for a split, how many of its pieces have settled."""
        record = self.record()
        batch = self._batch(record) if record.progress is None else None
        if batch is None:
            return record.progress
        return Progress(batch.total - batch.open, batch.total if batch.sealed else None)

    @property
    def said(self) -> dict[str, Any] | None:
        """What the job said of itself last, by `current.set_status`; None until it has.

        It stays when the job has ended.
        """
        text = self.record().status
        return None if text is None else _status(text)

    @property
    def batch(self) -> BatchRecord | None:
        """The counters of the job's pieces, where it is a split or the continuation of a batch."""
        return self._batch(self.record())

    def _batch(self, record: Record) -> BatchRecord | None:
        return None if record.below is None else self._app.store.batch(record.below)

    def attempts(self) -> list[AttemptRecord]:
        """The runs of the job that did not complete, oldest first, with errors and tracebacks.

        Of a job that ran often, the first 10 and the last 100 are kept.
        """
        return self._app.store.attempts(self.id)

    def pieces(self) -> Iterator[Job[Any]]:
        """The jobs that this one was split into, in order."""
        below, after = self.record().below, -1
        while below is not None and (page := self._app.store.pieces(below, after=after, limit=PAGE)):
            found = {record.id: record for record in self._app.store.get([piece.id for piece in page])}
            for piece in page:
                known = found.get(piece.id)
                yield Job(self._app, piece.id) if known is None else self._app.handle(piece.id, known)
            after = page[-1].ordinal

    def errors(self, *, limit: int = 100) -> ErrorNode | None:
        """Why the job failed, down to the pieces that did; None where nothing failed. At most `limit` nodes."""
        return error_tree(self._app.store, self.record(), [limit])

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def result(self, timeout: float | None = None) -> R:
        """Waits until the job has ended, and returns what its task returned.

        `timeout` is in seconds. Raises `JobFailed`, `JobCancelled`, `ResultTimeout`, `JobNotFound`. A parked job may be
        brought back, so with a timeout it is waited for; without one, `JobParked` is raised. A store that is away is
        waited for, too; `StoreUnavailable` is raised where it still is when the time is over.
        """
        waiting = Patience(timeout)
        while True:
            with waiting.through_absences():
                ended, value = self._ended(patient=timeout is not None)
                if ended:
                    return cast(R, value)
                if waiting.is_over():
                    raise self._late(timeout)
            time.sleep(waiting.pause())

    async def aresult(self, timeout: float | None = None) -> R:
        """`result`, awaited: reads on a thread of the app's own pool, and waits on the loop."""
        waiting = Patience(timeout)
        while True:
            with waiting.through_absences():
                ended, value = await self._app.edge.call(self._ended, patient=timeout is not None)
                if ended:
                    return cast(R, value)
                if waiting.is_over():
                    raise self._late(timeout)
            await aio.pause(waiting.pause())

    def _ended(self, *, patient: bool) -> tuple[bool, Any]:
        """Whether the job has ended, and its result; raises what a job that did not complete raises."""
        record = self.record()
        if record.state is State.COMPLETED:
            return True, self._result(record)
        if record.state is State.FAILED:
            error = record.error
            said = f"{error.type}: {error.message}" if error else "no error was recorded"
            raise JobFailed(f"job {self.id} ({record.task}) failed: {said}", self.id, error)
        if record.state is State.CANCELLED:
            raise JobCancelled(f"job {self.id} ({record.task}) was cancelled: {record.reason or 'no reason was given'}")
        if record.state is State.PARKED and not patient:
            raise JobParked(f"job {self.id} ({record.task}) is parked: {record.reason or 'no reason was given'}")
        return False, None

    def _result(self, record: Record) -> Any:
        """What the completed job came to."""
        return self._app.decode_result(record)

    def _late(self, timeout: float | None) -> ResultTimeout:
        record = self.known
        why = f" ({record.reason})" if record.reason and record.state in (State.PARKED, State.WAITING) else ""
        return ResultTimeout(f"job {self.id} ({record.task}) is still {record.state}{why} after {timeout:g} s")

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None) -> bool:
        """Cancels the job, with everything below it; a running one is asked to stop. False if it had ended.

        `by` is who asks, kept beside when and why; unless given, the user and host of this process. Raises `BadOption`
        for a reason or a name that is no text.
        """
        why, who = why_and_who("cancel", reason, by)
        return self._cancel(why, who)

    def _cancel(self, why: str, who: str, *, undo: bool = False) -> bool:
        def in_store() -> bool:
            return self._app.store.cancel(Filter(ids=(self.id,)), reason=why, by=who, undo=undo) > 0

        return in_store() or self._cancel_beside(why, who, in_store)

    def _cancel_beside(self, why: str, who: str, in_store: Callable[[], bool]) -> bool:
        """Cancels it where it is held until a commit, or in the outbox; or in the store, if it came there meanwhile."""
        if self._held is not None:
            if self._held.cancel(self.id):
                return True
            before, self.id = self.id, self._held.stored_as(self.id) or self.id
            return before != self.id and in_store()
        done = self._app.outbox is not None and self._app.outbox.cancel(self.id, reason=why, by=who)
        if isinstance(done, str):
            self.id = done
        return bool(done) and (in_store() or done is True)

    async def acancel(self, reason: str = "cancelled by its caller", *, by: str | None = None) -> bool:
        """`cancel`, awaited."""
        return await self._app.edge.call(self.cancel, reason, by=by)

    def retry(self, reason: str = "", *, by: str | None = None) -> bool:
        """Makes a failed, cancelled or parked job available again; a split takes its failed pieces along.

        What has completed is not run again. False if the job has not ended badly, so that there is nothing to retry.
        Raises `UsageError` with the reason where it has, and cannot come back. `reason` and `by` (unless given, the
        user and host of this process) are kept in the lines of operations that come back, and of no other jobs.
        """
        return self._bring_back("retry", "retried", reason, by, RETRIABLE)

    async def aretry(self, reason: str = "", *, by: str | None = None) -> bool:
        """`retry`, awaited."""
        return await self._app.edge.call(self.retry, reason, by=by)

    def resume(self, reason: str = "", *, by: str | None = None) -> bool:
        """Lets a cancelled job go on, and below it what was still open then; what had failed by itself stays failed.

        What has completed is not run again. False if it was not cancelled. Raises `UsageError` with the reason where it was,
        and cannot come back. `reason` and `by` are kept as with `retry`.
        """
        return self._bring_back("resume", "resumed", reason, by, (State.CANCELLED,), resume=True)

    def _bring_back(
        self, verb: str, done: str, reason: str, by: str | None, states: Collection[State], *, resume: bool = False
    ) -> bool:
        why, who = why_and_who(verb, reason, by)
        refused: Record | None = None
        while not self._came_back(why, who, resume):
            record = self.record()
            if record.state not in states:
                return False
            if refused is not None and _end_of(record) == _end_of(refused):
                why_not = why_not_back(self._app.store, record)
                raise UsageError(f"job {self.id} ({record.task}) cannot be {done}: {why_not}")
            refused = record  # unless somebody else brought it back just then, and it has ended again since
        return True

    def _came_back(self, why: str, who: str, resume: bool) -> bool:
        back = self._app.store.retry(Filter(ids=(self.id,)), resume=resume, by=who, reason=why) > 0
        return back or self._recall(why, who, resume=resume)

    def _recall(self, why: str, who: str, *, resume: bool = False) -> bool:
        """Brings it back where it ended in the outbox."""
        outbox = self._app.outbox
        return outbox is not None and outbox.retry(self.id, reason=why, by=who, resume=resume)

    async def aresume(self, reason: str = "", *, by: str | None = None) -> bool:
        """`resume`, awaited."""
        return await self._app.edge.call(self.resume, reason, by=by)

    def delete(self) -> int:
        """Deletes the job with all below it, and returns how many that were; 0 where it, or its tree, has to stay.

        Only what ended or is parked is deleted; a piece goes with its root, or by itself once that has completed.
        """
        return self._app.store.delete(Filter(ids=(self.id,)))


def _end_of(record: Record) -> tuple[State, int, float | None]:
    """This very end of a job, as told from an earlier or a later one."""
    return record.state, record.run, record.finished_at
