"""What a run came to, as values, and the settlement that a store applies.

Outcomes carry their name as a tag, so that one can cross from a process of the pool to its worker.
"""

from __future__ import annotations

import msgspec

from piecework.job import Change, Ending, ErrorInfo, Route, State, Wait
from piecework.retry import RetryPolicy


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """The root of everything that a run can come to."""


class Complete(Outcome, frozen=True, gc=False):
    """The run ended well; `result` is JSON text, None for Python's None."""

    result: str | None = None


class Errored(Outcome, frozen=True):
    """The run raised. It is tried again while attempts are left, by the task's policy or by the one given here."""

    error: ErrorInfo
    retry: RetryPolicy | None = None


class Again(Outcome, frozen=True):
    """The task asked to be run again after `delay` seconds; `error` is set when that spends an attempt."""

    delay: float
    reason: str | None = None
    error: ErrorInfo | None = None


class Failed(Outcome, frozen=True):
    """The run failed for good, whatever attempts are left."""

    error: ErrorInfo


class Cancelled(Outcome, frozen=True):
    """The run stopped because it was asked to, or because the task said so."""

    reason: str


class Park(Outcome, frozen=True):
    """The job cannot be resolved or decoded by this worker; it is kept with the reason."""

    reason: str


class Release(Outcome, frozen=True):
    """The job is handed back as if it had not been fetched: no attempt is spent.

    A quiet one leaves no line in the history.
    """

    reason: str
    quiet: bool = False


class Seal(Outcome, frozen=True):
    """The splitter has offered all its pieces, `total` in number."""

    total: int


class Stepped(Outcome, frozen=True):
    """A step of an operation ended well: what it changed, and what it said of the way on.

    `jump` is "branch/step"; `delay` is in seconds. `said` names the line that is kept of it.
    """

    changes: tuple[Change, ...] = ()
    jump: str | None = None
    delay: float | None = None
    wait: Wait | None = None
    said: str = "completed"


class Undone(Outcome, frozen=True):
    """The undo of a step ended well."""

    changes: tuple[Change, ...] = ()


class UndoNext(Outcome, frozen=True):
    """Which visit an operation undoes next, as a cursor; None when nothing is left to be undone."""

    cursor: str | None


class Await(Outcome, frozen=True):
    """The step is to wait for a signal: the operation comes to it again when that has come, or its time is over."""

    wait: Wait
    changes: tuple[Change, ...] = ()


class Advance(msgspec.Struct, frozen=True):
    """What a settlement says of an operation whose step, or whose undoing of one, has come to its end.

    The job's attempts, crashes and progress begin anew, and it has no batch below it any more. `at` is the cursor of
    what ended; the settlement's `attempt` is kept in its line.
    """

    at: str
    changes: tuple[Change, ...] = ()
    wait: Wait | None = None  # for what it waits before it goes on; the settlement's state is `waiting` then
    ending: Ending | None = None  # from now on what it did is undone
    queue: str | None = None  # where it goes on, if not where it was
    priority: int | None = None
    route: Route | None = None  # what the step said of the way on: kept in its line, for forks


class Settlement(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The full consequence of an outcome: plain data that a store applies in one transaction, behind the fence (id, run).

    `delay` counts from the store's own now. `history` names the line that is kept of this run, if one is.
    With the state `running`, an operation's next step runs on where the last one ended: as the run after this one.
    """

    id: str
    run: int
    state: State
    attempt: int
    queue: str  # the job's queue before: counters are kept by queue and state
    result: str | None = None
    delay: float | None = None
    cursor: str | None = None
    batch: str | None = None  # the batch that this job is a piece of
    error: ErrorInfo | None = None
    reason: str | None = None
    history: str | None = None
    seal: int | None = None  # the job is a splitter: fix its own batch at so many pieces
    advance: Advance | None = None  # the job is an operation, and moves on
