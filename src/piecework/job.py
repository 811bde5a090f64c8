"""The values that travel: what a caller adds, what a worker fetches, what the store keeps. None of them can do I/O.

Times are seconds since the epoch (UTC) as floats; payloads (`args`, `result`, `options`) are JSON text, kept as text
from the call to the worker so that no room in between parses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from piecework.errors import UsageError

# ── where a job stands, and why ──────────────────────────────────────────────────────────────────


class State(StrEnum):
    """Where a job stands. A job that is `available` and not yet due is what people call scheduled.

    `waiting`, `available` and `running` are on their way, `completed`, `failed` and `cancelled` have ended; `parked` is
    kept with its reason until somebody, or new code, brings it back. A member equals its text.
    """

    WAITING = "waiting"  # its pieces, or its batch, have not settled
    AVAILABLE = "available"  # may be fetched once it is due
    RUNNING = "running"  # a worker holds it
    COMPLETED = "completed"
    FAILED = "failed"  # for good, until somebody retries it
    CANCELLED = "cancelled"
    PARKED = "parked"  # cannot be resolved or decoded; kept with its reason

    @property
    def finished(self) -> bool:
        """Whether a job in this state has ended. A parked one has not: it waits for somebody."""
        return self in FINISHED


CRASH_LIMIT = 3  # so many deaths of its worker make a job poison
SUSPECT = CRASH_LIMIT - 1  # with so many it is run alone, so that the last is charged to no other

FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class OnFailure(StrEnum):
    """What becomes of a batch when one of its pieces fails for good: `fail_fast`, `finish` or `compose`."""

    FAIL_FAST = "fail_fast"  # the batch fails at once; pieces that have not started never do
    FINISH = "finish"  # the others run to their end, then the batch fails
    COMPOSE = "compose"  # the others run to their end, then the compose runs and sees the failures


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as text (`type`, `message`, `traceback`): its class is never rebuilt from the store."""

    type: str
    message: str
    traceback: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far a running job says it is: `done` of `total` (None while nobody knows it), and a `note`."""

    done: float
    total: float | None = None
    note: str = ""


# ── what an operation carries along ──────────────────────────────────────────────────────────────


class Change(msgspec.Struct, frozen=True, array_like=True):
    """One global of an operation, as it is from now on: `value` is JSON text, None where it is taken away.

    `terms` are what it is found by: see `terms.py`.
    """

    key: str
    value: str | None
    terms: tuple[str, ...] = ()


def fold(globals: dict[str, msgspec.Raw], changes: Iterable[Change]) -> None:
    """Applies changes to globals, key by key."""
    for change in changes:
        if change.value is None:
            globals.pop(change.key, None)
        else:
            globals[change.key] = msgspec.Raw(change.value.encode())


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """What an operation waits for before its next step: a signal, for `timeout` seconds, or for ever.

    Its payload becomes the global `into`; without one in time the operation goes to `otherwise`, or fails. With the
    signal it is due after `delay` seconds, and not before `run_at`; without one it is due at once, to go where it then
    goes.
    """

    name: str
    timeout: float | None = None
    into: str | None = None
    otherwise: str | None = None
    delay: float | None = None
    run_at: float | None = None
    is_step: bool = False  # it is the step that the operation is at; else what that step's predecessor asked for


class Route(msgspec.Struct, frozen=True, array_like=True):
    """What a step said of the way on: where it jumped ("branch/step"), how long it slept, and for what it lets wait."""

    jump: str | None = None
    pause: float | None = None
    wait: Wait | None = None


class Ending(msgspec.Struct, frozen=True):
    """What an operation will have come to, once what it did is undone: failed or cancelled, and why."""

    state: State
    error: ErrorInfo | None = None
    reason: str | None = None
    by: str | None = None


# ── what is added ────────────────────────────────────────────────────────────────────────────────


class NewOperation(msgspec.Struct, frozen=True):
    """What makes a job an operation: where it begins, by which plan, and with which globals.

    `digest` names the plan, `plan` is its JSON text: it is stored once, however many operations walk it. With `again`
    a unique key is taken over from an operation that has ended; else that one is the answer.
    """

    cursor: str
    digest: str
    plan: str
    globals: tuple[Change, ...] = ()
    again: bool = False
    forked_from: str | None = None  # the operation whose globals these are …
    forked_after: int | None = None  # … after so many visits
    wait: Wait | None = None  # for what it waits before it begins; the job's state is `waiting` then …
    received: str | None = None  # … unless this is the payload that came


class NewJob(msgspec.Struct, frozen=True, gc=False):
    """A job to be added. `delay` counts from the store's own now; `run_at` is absolute; at most one is set."""

    id: str
    task: str
    args: str
    queue: str = "default"
    priority: int = 0
    run_at: float | None = None
    delay: float | None = None
    key: str | None = None  # unique key
    options: str | None = None  # what this call overrides of the task's own options
    expires: float | None = None  # seconds after it is due in which it must have been begun …
    expires_at: float | None = None  # … or the moment itself
    batch: str | None = None
    root: str | None = None
    ordinal: int | None = None
    piece: str | None = None  # the piece's key in its batch; None means its ordinal
    state: State = State.AVAILABLE
    operation: NewOperation | None = None
    identity: str | None = None  # the business key by which its status is asked for
    tags: tuple[str, ...] = ()  # words by which operators find it: each once


class NewBatch(msgspec.Struct, frozen=True):
    """A batch to be opened. `then` is the job that it releases; a split's batch bears that job's own id.

    With `always`, `then` is released also where the batch fails: it looks for itself what became of its pieces.
    """

    id: str
    then: str | None = None
    on_failure: OnFailure = OnFailure.FINISH
    then_queue: str | None = None  # where the released job runs, if not where it was
    then_priority: int | None = None
    always: bool = False


# ── what a worker is given ───────────────────────────────────────────────────────────────────────


class Fence(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The right to write for one run of one job: `run` counts fetches and never goes back."""

    id: str
    run: int


class Claim(msgspec.Struct, frozen=True):
    """One request for work. The same worker asking again with the same number gets the same jobs."""

    worker: str
    number: int
    limit: int
    queues: tuple[str, ...] | None = None  # None: every queue


class OperationRun(msgspec.Struct, frozen=True, array_like=True):
    """What a worker gets of an operation beside its job. `received` is the payload of the signal it waited for, as JSON
    text; None where none came.
    """

    digest: str
    globals: str
    wait: Wait | None = None
    received: str | None = None
    ending: Ending | None = None  # what it did is being undone, or is to be


class Fetched(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One run of a job, as a worker gets it. The field order is the wire order of the stores' fetch."""

    id: str
    run: int
    task: str
    queue: str
    priority: int
    attempt: int  # attempts spent before this one
    crashes: int
    batch: str | None
    root: str | None
    cursor: str | None
    options: str | None
    started_at: float
    args: str
    operation: OperationRun | None = None

    @property
    def fence(self) -> Fence:
        return Fence(self.id, self.run)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the store keeps of a job, at one moment."""

    id: str
    task: str
    queue: str
    priority: int
    state: State
    run_at: float
    run: int
    attempt: int
    crashes: int
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    worker: str | None = None
    batch: str | None = None
    root: str | None = None
    below: str | None = None  # the batch that it waits for, or was split into last
    ordinal: int | None = None
    piece: str | None = None
    key: str | None = None
    cursor: str | None = None
    options: str | None = None
    reason: str | None = None
    expires_at: float | None = None  # by when it must have been begun
    stopping: bool = False  # somebody asked it to stop, and it has not answered yet
    stopped_by: str | None = None  # who asked, where it was this very job that was asked for
    stopped_at: float | None = None
    progress: Progress | None = None
    error: ErrorInfo | None = None
    args: str = ""
    result: str | None = None
    identity: str | None = None
    tags: tuple[str, ...] = ()
    status: str | None = None  # what it said of itself last, as JSON text …
    status_at: float | None = None  # … and when

    @property
    def piece_key(self) -> str | None:
        """The piece's key in its batch, which is its ordinal unless it was given one."""
        return self.piece if self.piece is not None or self.ordinal is None else str(self.ordinal)


FIRST_RUNS, LAST_RUNS = 10, 100  # whose lines are kept, of a job that comes back for ever


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run that did not complete: what it came to, when, where and why."""

    job: str
    run: int
    attempt: int
    outcome: str  # retry, failed, released, snoozed, cancelled, parked, crashed; of a step also completed, undone
    started_at: float | None
    finished_at: float
    worker: str | None = None
    error: ErrorInfo | None = None
    reason: str | None = None
    cursor: str | None = None  # where the job was
    changes: tuple[Change, ...] = ()  # of an operation's globals, stored with this line
    route: Route | None = None  # what the step said of the way on, if it did


class OperationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the store keeps of an operation beside its job."""

    id: str
    digest: str
    globals: str
    key: str | None = None  # by which a second start finds it, whatever its state
    wait: Wait | None = None
    received: str | None = None
    ending: Ending | None = None
    forked_from: str | None = None
    forked_after: int | None = None


# ── what people do to an operation ───────────────────────────────────────────────────────────────


class Amendment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did to an operation by hand. Its id makes it safe to be sent twice.

    `cursor` is where the operation goes on, None where it stays; `queue` and `priority` are that step's.
    """

    id: str
    what: str  # skipped, jumped, edited, retried, undoing, …
    by: str
    reason: str = ""
    cursor: str | None = None
    changes: tuple[Change, ...] = ()
    queue: str | None = None
    priority: int | None = None
    delay: float | None = None
    onward: bool = False  # what it was to come to is taken back: nothing of it is undone (any more)
    resume: bool = False  # where it has failed, was cancelled or is parked, it goes on at once


class Deed(msgspec.Struct, frozen=True, array_like=True):
    """An amendment, and the operation that it is for: it is made where that is still at this cursor."""

    id: str
    cursor: str
    amendment: Amendment


class AmendmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The line that an amendment left: where the operation was, and when."""

    id: str
    job: str
    run: int
    what: str
    by: str
    reason: str
    at: float
    cursor_before: str | None = None
    cursor: str | None = None
    changes: tuple[Change, ...] = ()


class NewSignal(msgspec.Struct, frozen=True, kw_only=True):
    """A signal to an operation: `payload` is JSON text. Its id makes it safe to be sent twice."""

    id: str
    name: str
    payload: str = "null"
    by: str | None = None


class SignalRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A signal as it is kept: when it came, and when a wait took it, if one did."""

    id: str
    job: str
    name: str
    payload: str
    by: str | None
    at: float
    taken_at: float | None = None


# ── of many jobs together ────────────────────────────────────────────────────────────────────────


class BatchState(StrEnum):
    OPEN = "open"
    DONE = "done"  # every piece settled, and the continuation was released
    FAILED = "failed"  # a piece failed for good, and the continuation was not released
    STOPPED = "stopped"  # somebody cancelled it


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and its counters; `open` is the number of pieces that have not settled."""

    id: str
    then: str | None
    state: BatchState
    on_failure: OnFailure
    sealed: bool
    total: int
    open: int
    completed: int
    failed: int
    cancelled: int
    created_at: float
    finished_at: float | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with an identity: its newest job, and what was said of it last, maybe by an earlier one."""

    id: str  # the newest job that carries it …
    state: State  # … and that one's state
    busy: bool  # any of its jobs is waiting, available or running
    status: str | None = None  # as JSON text; None until one of its jobs has set one
    status_by: str | None = None  # the job that did
    status_at: float | None = None


class PieceResult(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One piece as the compose reads it: its place, its key, and either a result or an error."""

    ordinal: int
    key: str | None
    id: str
    task: str
    state: State
    result: str | None
    error: ErrorInfo | None


# ── what is asked, and answered ──────────────────────────────────────────────────────────────────


def check_asked(what: str, text: object) -> None:
    """Raises `UsageError` for what no store can look for, because none could keep it."""
    if isinstance(text, str) and "\0" not in text:
        if text.isascii():
            return
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    raise UsageError(f"{what} must be text that can be stored, without NUL and lone surrogates, not {text!r:.100}")


class Filter(msgspec.Struct, frozen=True):
    """Which jobs an operator's verb or a listing means. Every field that is set must match.

    A moment `…_from` is the first one that matches, and a moment `…_before` the first one that does not.
    Raises `UsageError` for text that no store could keep.
    """

    ids: tuple[str, ...] | None = None
    queue: str | None = None
    task: str | None = None
    state: State | None = None
    batch: str | None = None
    root: str | None = None
    key: str | None = None
    worker: str | None = None
    operations: bool | None = None  # only operations; False, only others
    terms: tuple[str, ...] | None = None  # only operations whose globals have all of these
    identity: str | None = None
    tags: tuple[str, ...] | None = None  # it has all of these
    created_from: float | None = None
    created_before: float | None = None
    finished_from: float | None = None  # only jobs that have ended
    finished_before: float | None = None

    def __post_init__(self) -> None:
        for what in ("queue", "task", "batch", "root", "key", "worker", "identity"):
            if (text := getattr(self, what)) is not None:
                check_asked(what, text)
        for what, texts in (("an id", self.ids), ("a term", self.terms), ("a tag", self.tags)):
            for text in texts or ():
                check_asked(what, text)


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a worker's supervisor. Its beat says that it lives; no time is compared.

    `polled_at` is when its workers had all looked at the store last, as far as it has told; by the store's clock.
    """

    id: str
    beat: int
    started_at: float
    seen_at: float
    name: str
    host: str
    pid: int
    polled_at: float | None = None


class Answer(StrEnum):
    """What became of a settlement."""

    OK = "ok"  # recorded now
    ALREADY = "already"  # this very run was recorded before: the earlier try worked
    STALE = "stale"  # somebody else owns or finished the job; nothing was changed
    LET_GO = "let go"  # recorded, but the job does not run on here: it was asked to stop, or its queue is paused


class Finding(msgspec.Struct, frozen=True):
    """One line of a store's self-examination: `ok`, `warning` or `error`, with what to do about it."""

    level: str
    subject: str
    message: str


def as_utc(seconds: float | None) -> datetime | None:
    """Epoch seconds as an aware UTC datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
