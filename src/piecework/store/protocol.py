"""The seam: what a store is. Verbs about jobs, each with its contract in sentences, each sentence a conformance test.

All verbs are synchronous and thread-safe. Every mutating verb may be sent twice with the same end state. A store raises
`StoreUnavailable` when the same call may be sent again, and then has applied it wholly or not at all.
Time is the store's: what is due is judged by its clock, and delays count from its now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from piecework.job import (
    CRASH_LIMIT,
    Amendment,
    AmendmentRecord,
    Answer,
    AttemptRecord,
    BatchRecord,
    Claim,
    Deed,
    ErrorInfo,
    Fence,
    Fetched,
    Filter,
    Finding,
    NewBatch,
    NewJob,
    NewSignal,
    OperationRecord,
    PieceResult,
    Progress,
    Record,
    SessionRecord,
    SignalRecord,
    Standing,
)
from piecework.outcome import Settlement
from piecework.parts import DistributedRecord, DistributedState, Done, PartEnd, PartRecord, PartState, Push, Resumed
from piecework.store.callers import Aside


class Opened(Protocol):
    """The transaction of one run; see `Store.transaction`."""

    @property
    def connection(self) -> Any:
        """The driver's connection. The transaction on it is not the task's to end."""

    def settle(self, settlement: Settlement) -> None:
        """Ends the run in this transaction. Raises `LeaseLost`."""

    def set_status(self, fence: Fence, status: str) -> None:
        """The verb `set_status` in this transaction. Raises `LeaseLost`."""


@runtime_checkable
class Scripted(Protocol):
    """A store that is set up by SQL, which an administrator may want to read, or to run by hand."""

    def script(self, after: int | None = None) -> str:
        """The SQL that `migrate` would run on this store; or, without looking at it, from the schema of a version on.

        One transaction, as the database's own shell takes it. `after=0` sets up a new store.
        """


class Parts(Protocol):
    """The verbs of distributed jobs: what is kept of work that is done anywhere.

    A job that has ended, finished or failed, is forgotten once its time is over: from then on it is as if it had never
    been. One that has not ended is kept for as long as that takes. Where a token has no job, `push` begins one if it is
    the first of its producer's run; `end`, `stop`, `resume` and another push raise `TokenNotFound`.
    """

    def push(self, push: Push) -> list[PartState]:
        """Registers parts, behind those that are there, and answers where each of them stands.

        A part that is there stays as it is. Nothing is registered by a push that raises.
        With `close` no part can follow; with that, and all parts ended, the job has ended.
        A part that is new to a closed job raises `AlreadyClosed`; so does any push of another run to a job whose
        producer has handed over all.
        The first push of another run takes over: a further push of the run before raises `ProducerReplaced`.
        A push to a job that was stopped raises `DistributedJobStopped`.
        A `close` with another number than there are parts raises `PartsChanged`.
        The follow-ups that were stored first stay; one that was not stored is.
        Each push deletes as much of what is past its time as it adds, and some more.
        """
        ...

    def leave(self, token: str, producer: str, error: ErrorInfo | None = None) -> None:
        """Notes that a producer has handed over all of a closed job, or with what error it broke off.

        What a run says that was replaced does not count, and neither does anything once all was handed over. A push of
        the next run takes the error away.
        """
        ...

    def end(self, token: str, ends: Sequence[PartEnd], *, ttl: float | None = None) -> list[Done]:
        """Ends parts, in their order and a bite at a time, and answers what became of each behind the last bite.

        A bite is one transaction; a small call is one. A large one that breaks off has ended the parts of its first
        bites; sent again, it ends the others, and all the answers are those of a call that did not break off.
        An open part is done or failed now; a failed one may be done after all. Any other end of a part changes nothing,
        and `counted` is for the call that ended it, also when that is sent again. A part that is not known changes
        nothing.
        When a closed job that was not stopped has no open part left, it has ended: finished where all are done, and the
        last of them is `last` from then on; else failed.
        The follow-up `then` is stored as a job in the transaction with which the job is finished, and `otherwise` in
        the one with which it has failed or was stopped first; each once.
        What changes a job that has ended counts its time anew; `ttl` is that time from now on.
        """
        ...

    def stop(
        self, token: str, reason: str, *, call: str | None = None, by: str | None = None, ttl: float | None = None
    ) -> bool:
        """Stops a job, and says whether this call did it: not where it has ended, or was stopped before.

        Parts still end, but the job does not; it is kept until somebody resumes it.
        `call` names the call: one that has stopped the job, and is sent again, changes nothing and gets the same
        answer, whoever has resumed the job meanwhile. Without it each is another call.
        """
        ...

    def resume(self, token: str, *, call: str | None = None) -> Resumed:
        """Lets a job go on that was stopped or has failed, and says whether it was; parts that failed are open again.

        One whose parts are all done is finished by it, and the answer says so. Many parts are opened a bite at a time,
        each in a transaction, and the job is stopped until the last of them is: a call that breaks off leaves it so,
        and is made again. `call` as for `stop`.
        """
        ...

    def forget(self, tokens: Sequence[str], *, call: str | None = None) -> int:
        """Deletes jobs with all their parts, whatever their state, and answers how many there were.

        `call` as for `stop`, for a minute: the same call sent again leaves a job alone that was pushed to meanwhile.
        """
        ...

    def prune(self, *, limit: int = 1000) -> int:
        """Deletes up to `limit` parts of what is past its time or was deleted, and answers how many rows that were."""
        ...

    def read(self, token: str) -> DistributedRecord | None:
        """What is kept of a job beside its parts."""
        ...

    def find(
        self,
        state: DistributedState | None = None,
        *,
        after: str | None = None,
        limit: int = 100,
        newest: bool = True,
    ) -> list[DistributedRecord]:
        """A page of jobs, newest first, or in that state only, beginning behind the token `after`.

        Empty where `after` is not there any more.
        """
        ...

    def parts(
        self, token: str, *, after: int = -1, limit: int = 500, state: PartState | None = None
    ) -> list[PartRecord]:
        """A page of a job's parts in the order in which they were offered, beginning behind the number `after`."""
        ...

    def part(self, token: str, part: str) -> PartRecord | None:
        """One part; None where there is none of this name."""
        ...

    def now(self) -> float:
        """The store's own time, by which it judges whose time is over."""
        ...


class Store(Protocol):
    """The durable home of jobs."""

    url: str  # without credentials

    @property
    def parts(self) -> Parts:
        """The verbs of distributed jobs, in the same database."""
        ...

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        """Brings the schema to this version and returns the names of the migrations it applied.

        Forward only. Two processes may race; each migration is applied once.
        """
        ...

    def examine(self) -> list[Finding]:
        """Says what is right and wrong with the store: its version, its settings, its library's known weaknesses."""
        ...

    def is_set_up(self) -> bool:
        """Whether there are tables to be read. It creates nothing, so that a mistyped URL leaves nothing behind."""
        ...

    def now(self) -> float:
        """The store's own time, by which it judges what is due and by which the age of what it keeps is told."""
        ...

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        fence: Fence | None = None,
        within: Any = None,
    ) -> list[str]:
        """Stores the jobs, all or none, and returns for each the id under which it is stored.

        Whoever reads meanwhile may see some of many, where a store makes them visible a bite at a time; it then makes
        all of them visible, whatever becomes of the caller.
        A job whose id is already stored is left as it is.
        A job whose unique key is carried by an unfinished job is not stored; the answer is that job's id.
        A job that is not due is not fetched before its time.
        `identity` and `tags` are kept, and jobs are found by them; a job that is not stored changes nothing of
        another's.
        `expires_at` is kept; `expires` counts from the moment the job is due.
        `batch` is opened first, unless it exists. Pieces raise their batch's `total` and `open`.
        A piece whose key is already in its batch is not stored again; the answer is the stored piece's id.
        A key that is offered twice by one run raises `SplitChanged`; so does a key offered again with another task or
        other arguments.
        A piece added to a batch that is sealed raises `UsageError`; to one that failed or was stopped, `JobCancelled`.
        A job with `operation` begins at its cursor, with its globals and its plan, which is stored once for all.
        An operation whose unique key is held by another is not stored, even where that one has ended: the answer is
        that one's id, also where another job carries the key by now; with `again`, the key is taken over from one that
        has ended.
        With `fence`, nothing is stored unless that run still owns its job: `LeaseLost`.
        With `within`, everything is written on the caller's connection, and lives and dies with its transaction;
        a store that cannot raises `WithinNotSupported`.
        """
        ...

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        """`add` on a caller's asynchronous connection, awaited on the caller's event loop.

        What blocks runs by `aside`. A store that cannot raises `WithinNotSupported`.
        """
        ...

    def seal(self, batch: str) -> bool:
        """Fixes the number of pieces of a batch, and says whether this call did it.

        A batch without an open piece is finished by being sealed. A sealed batch is left as it is.
        """
        ...

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        """Takes up to `limit` due jobs for a worker: they run now, and their `run` is one higher.

        Lower priority first, then earlier `run_at`, then earlier arrival. No job is given to two workers.
        Paused queues and queues that were not asked for are left alone.
        A piece whose batch failed or was stopped is cancelled instead.
        A job past its `expires_at` is cancelled instead, whatever its queue, with a reason.
        An operation comes with its globals, its plan's digest, and the signal that it waited for, if that has come.
        An operation whose wait is over without a signal is due.
        A claim that was answered before gets the same jobs again, those that still run; new ones once none does.
        A worker that was reaped, or whose session is not enlisted or was buried, gets `LeaseLost`, and takes nothing.
        """
        ...

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        """Ends runs, one transaction for all, and answers for each `ok`, `already`, `stale` or `let go`.

        Only the run that owns the job changes it. The same settlement sent again answers `already` and changes nothing.
        A run that ends as available is due after its delay; without one, and with no attempt spent, it keeps its place.
        A run that ends with a delay, or as waiting, has been begun: its job does not expire any more.
        A job that was asked to stop and would come back is cancelled instead, with the reason that was given.
        A piece that ends lowers its batch's `open` and raises the counter of its end, in the same transaction.
        When a sealed batch has no open piece left, its continuation is released, once, in the same transaction; or it
        fails, where a piece failed or was cancelled and the batch does not compose with failures.
        A piece that fails for good in a `fail_fast` batch fails the batch at once.
        A continuation that fails and is itself a piece settles in its own batch, in the same transaction.
        The continuation of an `always` batch is released whatever becomes of the batch.
        An operation's advance moves its cursor, changes its globals, key by key, and keeps a line of the step with
        those changes, all in the same transaction; attempts and crashes begin anew, and the wait that was before is
        over.
        One that completes as a piece has its globals, as they are then, as its result: what was sent of one is not
        kept.
        One that advances as running goes on as the next run of the same worker: `ok`, and `already` when sent again.
        Where it was asked to stop it is cancelled instead, and where its queue is paused, or its globals were edited by
        hand since that run began, made available: `let go`.
        One that waits for a signal takes the oldest of that name that was kept, as if it had come now.
        One that was asked to stop and to undo is available instead of cancelled, with that ending; what it completed
        meanwhile is recorded. So is its last step: it is available then at that step's cursor, instead of completed.
        Where it fails all the same, that ending is dropped.
        One that was let go is told so when it sends again, whoever has the job by then: no run after it has the number
        that the next one would have had.
        A batch of the step that ended which is still open is stopped.
        The first ending of an operation stays.
        """
        ...

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        """`settle`, then `fetch`, in one transaction."""
        ...

    def holds(self, worker: str) -> list[Fence]:
        """The runs that are this worker's by the store's books.

        A request may arrive long after its worker gave it up and asked again, and then takes jobs of which nobody is
        told: these are here, and in no answer.
        """
        ...

    def transaction(self) -> AbstractContextManager[Opened]:
        """Opens a transaction for what one run itself writes, on a connection of its own.

        `settle` ends the run in it, and raises `LeaseLost` where that run does not own its job any more. At the end of
        the block everything is committed together where the run was settled, and rolled back where it was not.
        That settlement, sent again, answers `already`. A store that cannot raises `WithinNotSupported`.
        """
        ...

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        """Stores the progress of jobs that this worker runs, and returns the ids of those that were asked to stop."""
        ...

    def set_status(self, fence: Fence, status: str) -> bool:
        """Keeps what a run says of its job, and says whether that run still owns it; else nothing is changed.

        It replaces what was said before, is seen by the next read, and stays, with the moment at which it was said,
        whatever becomes of the job: until it is replaced, or the job is deleted.
        """
        ...

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        """Registers a session, whose id has no dot. Its workers are named `<session>.<n>`."""
        ...

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        """Raises the session's beat by one. False when the session was declared dead: its jobs are not its own.

        With `polled`, notes that its workers looked at the store that many seconds ago, by the store's clock.
        """
        ...

    def sessions(self) -> list[SessionRecord]:
        """Lists the sessions that have not ended."""
        ...

    def bury(self, session: str, beat: int | None = None) -> int | None:
        """Ends a session and returns its running jobs to their queues; answers how many.

        With `beat`, only if the session's beat is still that one; else None, and nothing is changed. Of several at the
        same time each answers for the jobs that it returned itself, and no job is returned twice.
        """
        ...

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        """Returns the running jobs of one worker to their queues, and answers their ids. No attempt is spent.

        The worker is over: a fetch of it that arrives later, however long it was on its way, gets `LeaseLost`. So it is
        called for workers that are known to have ended, and a session gives no other worker that number again.
        The jobs named in `crashed` are charged with a crash, and parked when that makes `crash_limit`; a job that was
        asked to stop is cancelled instead.
        """
        ...

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def cancel(
        self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
    ) -> int:
        """Cancels up to `limit` unfinished jobs and returns how many it touched.

        Each of them keeps who asked (`by`), when and why; what ends with it, below it, keeps why.

        A job that has not started never does. One that runs is asked to stop. One that waits for a batch takes the
        batch, and all below it, along. The id of a batch without a continuation stops that batch.
        With `undo`, an operation is not cancelled: it gets that ending, is available at once, and its worker undoes
        what it did; its batch, if it waits for one, is stopped, and does not come back with it. One that has that
        ending already, or that has ended, is left.
        With `by`, each operation that it touches, not what ends below that, keeps a line as an amendment does,
        `cancelled` or `undoing`, in the same transaction.
        """
        ...

    def retry(
        self, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
    ) -> int:
        """Makes up to `limit` failed, cancelled or parked jobs available again, attempts begun anew; returns how many.

        A failed piece opens its batch again, and so on up to the root.
        A piece of a batch that has composed stays as it is, and so does a parked piece of a batch that has ended; and a
        piece of a step that its operation is not at any more, or has not failed at.
        A split whose pieces failed or were cancelled waits again, and takes those pieces along.
        An operation that had no signal yet waits for it again, for as long as it was to.
        A job whose unique key is carried by another unfinished job stays as it is.
        With `resume`, only what was cancelled comes back: what failed by itself, or is parked, stays as it is.
        With `by`, each operation that comes back, also above and below those that match, keeps a line as an amendment
        does, `retried` or, with `resume`, `resumed`, in the transaction that brings it back; what stays keeps none.
        """
        ...

    def prune(self, *, before: float, limit: int = 1000) -> int:
        """Deletes up to `limit` jobs that completed or were cancelled before a moment, and returns how many.

        What is kept of them goes along: history, operations, signals, amendments.

        Failed and parked jobs are kept. A piece is kept while its root is unfinished.
        Where there are fewer, distributed jobs whose own time is over go too; they are not counted.
        """
        ...

    def delete(self, which: Filter, *, limit: int = 1000) -> int:
        """Deletes up to `limit` matching jobs that ended or are parked, with all below them; how many that were.

        Their history goes along, and so do their batches.
        A job that waits, is available or runs is kept, and so is whatever such a job is below.
        A piece is kept while its batch is open, and while the root of its tree could be run again: it goes with its
        root.
        Once the root has completed, or where there is none, it goes by itself, and its batch counts one less.
        """
        ...

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        """Moves an operation by hand, or edits its globals, and keeps a line that says who, when and why.

        The answer is `stale`, and nothing is changed, where there is no such operation, or its cursor is not `cursor`
        any more; or where the amendment moves it while it runs, waits for its pieces, or has completed.
        One that is moved begins its new step's attempts anew, and is due after the amendment's delay; what it waited
        for is over. One that has failed, was cancelled or is parked stays so until it is retried.
        With `resume`, it comes back in this very transaction, as `retry` brings it back, without a line of that; where
        it cannot come back, the answer is `stale` and nothing is changed.
        With `onward`, the ending that it had is taken back.
        An amendment with the id of one that was made answers `already` and changes nothing.
        """
        ...

    def signal(self, id: str, signal: NewSignal) -> bool:
        """Keeps a signal for an operation, and says whether there is such an operation and it has not completed.

        One that waits for a signal of this name gets it, and is available: at once, or when the wait says, by its
        `delay` and `run_at`. Else it is kept for a wait to come, and the oldest is taken first. A signal with the id of
        one that was kept is not kept again.
        One that failed, was cancelled or is parked stays so; retried, it takes what was kept when it waits again.
        """
        ...

    def amend_many(self, deeds: Sequence[Deed]) -> list[Answer]:
        """`amend` for each, and what each came to. Those of one operation are made in their order.

        Each is made wholly or not at all, with its line. They are made some at a time: a call that breaks off has made some
        of them; sent again, it makes the others, and answers `already` for those.
        """
        ...

    def signal_many(self, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
        """`signal` for each, by the id of its operation, and what each came to; to one operation in their order.

        Some at a time, as with `amend_many`.
        """
        ...

    def repair(self, *, limit: int = 10) -> list[str]:
        """Derives the counters of up to `limit` open batches from their pieces again, and returns what it mended.

        A sentence for each: whatever it returns is a bug in a store or somebody's hand in the tables.
        """
        ...

    def pause(self, queue: str, on: bool = True) -> None:
        """Stops or resumes the fetching of one queue; what runs goes on."""
        ...

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def get(self, ids: Sequence[str]) -> list[Record]:
        """The jobs with these ids, in this order; ids that are not stored are left out."""
        ...

    def find(self, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Record]:
        """A page of matching jobs in the order of their arrival (or the reverse), beginning behind the job `after`.

        Empty where `after` is not stored any more: a reader who pages while jobs are pruned comes to an end.
        """
        ...

    def count(self, which: Filter) -> int:
        """How many jobs match. By queue and state alone it reads counters; else it counts."""
        ...

    def counts(self) -> dict[tuple[str, str], int]:
        """How many jobs are in each (queue, state), from counters that every verb maintains."""
        ...

    def standing(self, tasks: Sequence[str], identity: str) -> Standing | None:
        """How it stands with an identity of these tasks, the names that one task has had; None without a job of it.

        `id` and `state` are those of the job that arrived last.
        `busy` while any of its jobs is waiting, available or running; its cost does not grow with those that have
        ended.
        `status` is what was set last, by whichever of its jobs: an earlier one's until a later one sets one.
        """
        ...

    def batch(self, id: str) -> BatchRecord | None:
        """A batch and its counters."""
        ...

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        """A page of a batch's pieces in their order, beginning behind the ordinal `after`.

        With `failed`, only of those that failed, were cancelled or are parked.
        """
        ...

    def attempts(
        self, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
    ) -> list[AttemptRecord]:
        """The runs of a job that did not complete, oldest first; of one that ran often, the first 10 and the last 100.

        Of an operation also every step that was completed or undone, and of each visit of a step so many of the others.
        `after`, `before` and `limit` page through them by run, with `newest` from the newest to the oldest. A page has
        all lines of a run or none: where the last run has several, it has more than `limit`.
        """
        ...

    def operations(self, ids: Sequence[str]) -> list[OperationRecord]:
        """What is kept of the operations among these jobs, in this order."""
        ...

    def plan(self, digest: str) -> str | None:
        """The plan of this digest, as JSON text; None where no operation ever brought it."""
        ...

    def amendments(self, id: str) -> list[AmendmentRecord]:
        """What was done to an operation by hand, oldest first."""
        ...

    def signals(self, id: str) -> list[SignalRecord]:
        """The signals that came for an operation, oldest first."""
        ...

    def paused(self) -> list[str]:
        """The queues that are paused."""
        ...

    def oldest_due(self) -> dict[str, float]:
        """For each queue with due jobs: for how many seconds the one that has waited longest has been due."""
        ...

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        """Sleeps until something may have changed or the time is over; says which. A hint, never the truth."""
        ...

    def next_due(self) -> float | None:
        """Seconds until the next job that is not due yet will be, or the next one expires; None when there is none.

        0.0 where the time of one came, and no fetch has looked since.
        """
        ...

    def close(self) -> None:
        """Lets go of every connection. A closed store opens again at its next use."""
        ...
