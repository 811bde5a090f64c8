"""What a run came to, as values: what a task may return or raise, and the settlement that a store applies."""

from __future__ import annotations

import msgspec

from piecework.job import ErrorInfo, State


class Outcome(msgspec.Struct, frozen=True):
    """The root of everything that a run can come to."""


class Complete(Outcome, frozen=True, gc=False):
    """The run ended well; `result` is JSON text, None for Python's None."""

    result: str | None = None


class Errored(Outcome, frozen=True):
    """The run raised. Whether it is tried again is for the retry policy to say."""

    error: ErrorInfo
    exception: type[BaseException] = Exception


class Fail(Outcome, frozen=True):
    """The run failed for good, whatever attempts are left."""

    error: ErrorInfo


class Cancel(Outcome, frozen=True):
    """The run stopped because it was asked to."""

    reason: str


class Park(Outcome, frozen=True):
    """The job cannot be resolved or decoded by this worker; it is kept with the reason."""

    reason: str


class Release(Outcome, frozen=True):
    """The job is handed back as if it had not been fetched: no attempt is spent."""

    reason: str


class Seal(Outcome, frozen=True):
    """The splitter has offered all its pieces, `total` in number."""

    total: int


class Settlement(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The full consequence of an outcome: plain data that a store applies in one transaction, behind the fence (id, run).

    `delay` counts from the store's own now. `history` names the line that is kept of this run, if one is.
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
