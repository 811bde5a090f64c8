"""Handles to jobs, and questions to the queue: `job.result()`, `app.jobs.where(queue="mail", state="failed").retry()`."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from piecework import aio
from piecework.amending import was_undone
from piecework.bringback import BringBack
from piecework.changed import Changed
from piecework.clock import SystemClock
from piecework.engine.trouble import Trouble
from piecework.errors import (
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobParked,
    ResultTimeout,
    StoreUnavailable,
    UsageError,
)
from piecework.job import (
    AttemptRecord,
    BatchRecord,
    ErrorInfo,
    Filter,
    PieceResult,
    Progress,
    Record,
    State,
    as_utc,
    check_asked,
)
from piecework.labels import identity_text
from piecework.options import check_moment, check_queue, check_seconds, check_tags, check_text
from piecework.split import key_of

if TYPE_CHECKING:
    from piecework.app import Piecework

log = logging.getLogger("piecework.jobs")

R = TypeVar("R")

PAGE = 200
BITE = 1000
RETRIABLE = State.FAILED, State.CANCELLED, State.PARKED
UNFINISHED = (
    State.WAITING,
    State.RUNNING,
    State.AVAILABLE,
    State.PARKED,
)  # what waits first: it takes along what it waits for
FIRST_WAIT, LONGEST_WAIT = 0.002, 0.25
_status = msgspec.json.Decoder(dict[str, Any]).decode
_plain = msgspec.json.Decoder().decode


class ErrorNode(msgspec.Struct, frozen=True):
    """One failed job in a tree of failures, with the failed pieces below it."""

    id: str
    task: str
    state: State
    key: str | None
    error: ErrorInfo | None
    reason: str | None
    pieces: list[ErrorNode]


class Job(Generic[R]):
    """A handle to one stored job. Every property reads the store anew; `record()` reads them all at once."""

    def __init__(self, app: Piecework, id: str, known: Record | None = None) -> None:
        self._app = app
        self._known = known
        check_asked("an id", id)
        self._held = app.held.get(id)
        self.id = id

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
        """What the job said of itself last, by `current.set_status`; None until it has. It stays when the job has ended."""
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
        return error_tree(self._app, self.record(), [limit])

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def result(self, timeout: float | None = None) -> R:
        """Waits until the job has ended, and returns what its task returned.

        `timeout` is in seconds. Raises `JobFailed`, `JobCancelled`, `ResultTimeout`, `JobNotFound`. A parked job may be
        brought back, so with a timeout it is waited for; without one, `JobParked` is raised. A store that is away is
        waited for, too; `StoreUnavailable` is raised where it still is when the time is over.
        """
        waiting = _Waiting(timeout)
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
        waiting = _Waiting(timeout)
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
        """Cancels it where it is held until a commit, or in the outbox; and in the store, if it came there meanwhile."""
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
        Raises `UsageError` with the reason where it has, and cannot come back. `reason` and `by` (unless given, the user
        and host of this process) are kept in the lines of operations that come back, and of no other jobs.
        """
        why, who = why_and_who("retry", reason, by)
        if self._app.store.retry(Filter(ids=(self.id,)), by=who, reason=why) or self._recall(why, who):
            return True
        record = self.record()
        if record.state not in RETRIABLE:
            return False
        raise UsageError(f"job {self.id} ({record.task}) cannot be retried: {self._why_not(record)}")

    async def aretry(self, reason: str = "", *, by: str | None = None) -> bool:
        """`retry`, awaited."""
        return await self._app.edge.call(self.retry, reason, by=by)

    def resume(self, reason: str = "", *, by: str | None = None) -> bool:
        """Lets a cancelled job go on, and below it what was still open then; what had failed by itself stays failed.

        What has completed is not run again. False if it was not cancelled. `reason` and `by` are kept as with `retry`.
        """
        why, who = why_and_who("resume", reason, by)
        back = self._app.store.retry(Filter(ids=(self.id,)), resume=True, by=who, reason=why) > 0
        return back or self._recall(why, who, resume=True)

    def _recall(self, why: str, who: str, *, resume: bool = False) -> bool:
        """Brings it back where it ended in the outbox."""
        outbox = self._app.outbox
        return outbox is not None and outbox.retry(self.id, reason=why, by=who, resume=resume)

    async def aresume(self, reason: str = "", *, by: str | None = None) -> bool:
        """`resume`, awaited."""
        return await self._app.edge.call(self.resume, reason, by=by)

    def _why_not(self, record: Record) -> str:
        """What keeps a failed, cancelled or parked job from coming back."""
        for job in self._and_above(record):
            if job.key is not None and self._carried(job):
                who = "its" if job.id == record.id else f"its split's ({job.id})"
                return f"{who} unique key {job.key!r} is carried by another job that has not finished"
        if record.state is State.PARKED and record.finished_at is None:
            return "the batch that it is a piece of has ended; retry the split"
        return "the batch that it is a piece of has composed, and what a compose has read does not change"

    def _carried(self, job: Record) -> bool:
        """Whether another job that has not finished carries the unique key of this one."""
        carriers = (
            self._app.store.find(Filter(key=job.key, state=state), limit=2) for state in State if not state.finished
        )
        return any(other.id != job.id for found in carriers for other in found)

    def _and_above(self, record: Record) -> Iterator[Record]:
        """The job, and the jobs that wait for it."""
        yield record
        while record.batch is not None:
            batch = self._app.store.batch(record.batch)
            found = self._app.store.get([batch.then]) if batch is not None and batch.then is not None else []
            if not found:
                return
            record = found[0]
            yield record

    def delete(self) -> int:
        """Deletes the job with all below it, and returns how many that were; 0 where it, or its tree, has to stay.

        Only what ended or is parked is deleted; a piece goes with its root, or by itself once that has completed.
        """
        return self._app.store.delete(Filter(ids=(self.id,)))


def walks(record: Record) -> bool:
    """Whether a job is an operation: its cursor is a place on a plan, and never a single word."""
    return record.cursor is not None and "/" in record.cursor


def why_and_who(verb: str, reason: str, by: str | None) -> tuple[str, str]:
    """What is kept of a verb: why, and who; without `by`, the user and host of this process. Raises `BadOption`."""
    return check_text(reason, f"{verb}: reason"), whoami() if by is None else check_text(by, f"{verb}: by", longest=200)


def whoami() -> str:
    """The user and host of this process, for those who ask later who it was."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    return f"{user}@{socket.gethostname()}"


class _Waiting:
    """How long to wait between two looks at a job: short waits first, for short jobs; then longer ones."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + check_seconds(timeout, "result: timeout")
        self._wait = FIRST_WAIT
        self._trouble = Trouble(SystemClock(), log=log)

    def is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    @contextmanager
    def through_absences(self) -> Iterator[None]:
        """A look in which the store may be away, as long as there is time."""
        try:
            yield
        except StoreUnavailable as error:
            if self.is_over():
                raise
            self._trouble.meet(error)
        else:
            self._trouble.over()

    def pause(self) -> float:
        """Seconds until the next look."""
        wait, self._wait = self._wait, min(LONGEST_WAIT, self._wait * 1.5)
        wait = max(wait, self._trouble.left())
        return wait if self._end is None else max(0.0, min(wait, self._end - time.monotonic()))


def error_tree(app: Piecework, record: Record, budget: list[int]) -> ErrorNode | None:
    """The failures at and below a job, as far as the budget of nodes goes."""
    below: list[ErrorNode] = []
    after = -1
    batch = record.below
    while batch and budget[0] > 0 and (page := app.store.pieces(batch, after=after, limit=PAGE, failed=True)):
        for piece in page:
            if budget[0] <= 0:
                break
            node = _piece_node(app, piece, budget)
            if node is not None:
                below.append(node)
        after = page[-1].ordinal
    if record.error is None and record.state not in (State.FAILED, State.CANCELLED, State.PARKED) and not below:
        return None
    budget[0] -= 1
    return ErrorNode(record.id, record.task, record.state, record.piece_key, record.error, record.reason, below)


def _piece_node(app: Piecework, piece: PieceResult, budget: list[int]) -> ErrorNode | None:
    found = app.store.get([piece.id])
    if found:
        return error_tree(app, found[0], budget)
    return ErrorNode(piece.id, piece.task, piece.state, key_of(piece), piece.error, None, [])


class Jobs:
    """The queue as a table to be asked: ``app.jobs.where(queue="toxic", state="failed").count()``."""

    def __init__(self, app: Piecework) -> None:
        self._app = app

    def get(self, id: str) -> Job[Any]:
        """A handle to a stored job. Raises `JobNotFound`, and `UsageError` for what cannot be an id."""
        found: Job[Any] = Job(self._app, id)
        record = found.record()
        job = self._app.handle(record.id, record)
        job._known = found._known  # nothing is known for good of what is still in the outbox
        return job

    async def aget(self, id: str) -> Job[Any]:
        """`get`, awaited."""
        return await self._app.edge.call(self.get, id)

    def where(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        state: State | str | None = None,
        batch: str | None = None,
        root: str | None = None,
        key: str | None = None,
        worker: str | None = None,
        identity: Any = None,
        tags: str | Iterable[str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        finished_after: datetime | None = None,
        finished_before: datetime | None = None,
    ) -> Query:
        """The jobs that match everything that is given.

        `identity` is that of a call (7 and "7" are one); `tags` is one, or several that a job must all have. Moments are
        aware datetimes, those after which included and those before which not; only what has ended has finished.
        Raises `UsageError` for a state that does not exist, for what is no moment, tag or identity, and for text that no
        store could keep.

        Example: ``app.jobs.where(tags="import", state="failed", finished_after=yesterday).retry()``
        """
        if state is not None:
            try:
                state = State(state)
            except ValueError:
                raise UsageError(f"no state {state!r}; the states are {', '.join(State)}") from None
        return Query(
            self._app,
            Filter(
                queue=queue,
                task=task,
                state=state,
                batch=batch,
                root=root,
                key=key,
                worker=worker,
                identity=identity_text(identity, "where: identity"),
                tags=None if tags is None else check_tags(tags, "where: tags"),
                created_from=check_moment(created_after, "where: created_after"),
                created_before=check_moment(created_before, "where: created_before"),
                finished_from=check_moment(finished_after, "where: finished_after"),
                finished_before=check_moment(finished_before, "where: finished_before"),
            ),
        )

    def __iter__(self) -> Iterator[Job[Any]]:
        return iter(self.where())

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs are in each (queue, state), from maintained counters."""
        return self._app.store.counts()

    # ── queues ───────────────────────────────────────────────────────────────────────────────────

    def queues(self) -> list[Queue]:
        """Every queue that has jobs or is paused, by name."""
        store = self._app.store
        counts, oldest, paused = store.counts(), store.oldest_due(), set(store.paused())
        names = {queue for (queue, _), n in counts.items() if n} | paused
        return [
            Queue(
                name=name,
                counts={state: counts[name, state] for state in State if counts.get((name, state))},
                oldest_due=oldest.get(name),
                paused=name in paused,
            )
            for name in sorted(names)
        ]

    def pause(self, queue: str) -> None:
        """Stops the fetching of a queue, in every worker; what runs goes on. Raises `BadOption` for what is no name."""
        self._app.store.pause(check_queue(queue, "pause"), True)

    def unpause(self, queue: str) -> None:
        """Lets a paused queue be fetched again."""
        self._app.store.pause(check_queue(queue, "unpause"), False)

    def paused(self) -> list[str]:
        """The queues that are paused."""
        return self._app.store.paused()


class Queue(msgspec.Struct, frozen=True):
    """A queue at one moment; `oldest_due` is for how many seconds its oldest due job has been due, None without one."""

    name: str
    counts: dict[str, int]
    oldest_due: float | None
    paused: bool


class Query:
    """Some jobs: iterate over them in order of arrival, count them, or act on them in bounded bites.

    Each operation among them keeps a line of who did it, when and why.
    """

    def __init__(self, app: Piecework, which: Filter) -> None:
        self._app = app
        self._which = which

    def __iter__(self) -> Iterator[Job[Any]]:
        after: str | None = None
        while page := self._app.store.find(self._which, after=after, limit=PAGE):
            for record in page:
                yield self._app.handle(record.id, record)
            after = page[-1].id

    def page(self, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Job[Any]]:
        """One page, beginning behind the job `after`."""
        if after is not None:
            check_asked("after", after)
        records = self._app.store.find(self._which, after=after, limit=limit, newest=newest)
        return [self._app.handle(record.id, record) for record in records]

    def first(self) -> Job[Any] | None:
        """The oldest, or None."""
        return next(iter(self.page(limit=1)), None)

    def count(self) -> int:
        """How many there are; by queue and state alone, from counters."""
        return self._app.store.count(self._which)

    def retry(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Retries all that failed, were cancelled or are parked; how many. Those that cannot come back stay as they are.

        The answer's `left` says how many these are, and `refused` which, with the reason; see `Changed`. `reason` and
        `by` (unless given, the user and host of this process) are kept with operations.
        """
        return self._bring_back(RETRIABLE, *why_and_who("retry", reason, by), resume=False)

    def resume(self, reason: str = "", *, by: str | None = None) -> Changed:
        """Lets all that were cancelled go on; how many. Those that cannot come back stay as they are, as with `retry`.

        `reason` and `by` (unless given, the user and host of this process) are kept with operations.
        """
        return self._bring_back((State.CANCELLED,), *why_and_who("resume", reason, by), resume=True)

    def _bring_back(self, states: Sequence[State], why: str, who: str, *, resume: bool) -> Changed:
        store = self._app.store
        back = BringBack(
            store,
            states,
            lambda which: store.retry(which, limit=BITE, resume=resume, by=who, reason=why),
            lambda record: self._app.handle(record.id, record)._why_not(record),
        )
        return back.told(self._by_state(states, back.bite, was_undone))

    def cancel(self, reason: str = "cancelled by its caller", *, by: str | None = None) -> int:
        """Cancels all that have not ended; how many."""
        why, who = why_and_who("cancel", reason, by)
        return self._by_state(
            UNFINISHED,
            lambda page: self._app.store.cancel(
                Filter(ids=tuple(record.id for record in page)), reason=why, by=who, limit=BITE
            ),
        )

    def _by_state(
        self,
        states: Sequence[State],
        act: Callable[[Sequence[Record]], int],
        left: Callable[[Record], bool] = lambda record: False,
    ) -> int:
        """Acts page by page, in order of arrival, but for what is left: a page of which nothing changes hides none.

        The pages are read beside the work of others; only the change of a page takes the store's lock.
        """
        done = 0
        for state in states if self._which.state is None else {self._which.state} & set(states):
            after, which = None, msgspec.structs.replace(self._which, state=state)
            while page := self._app.store.find(which, after=after, limit=BITE):
                if meant := [record for record in page if not left(record)]:
                    done += act(meant)
                after = page[-1].id
        return done

    def delete(self) -> int:
        """Deletes all that ended or are parked, with all below them; how many that were.

        A piece is kept while its root has not completed: it goes with its root. Nothing brings back what was deleted.
        """
        done = 0
        while n := self._app.store.delete(self._which, limit=BITE):
            done += n
        return done
