"""The values of distributed jobs: what a producer offers, how parts end, and what a store keeps of both.

A distributed job is a token and the parts under it. It runs nothing: whoever works on a part, on whatever queue, says
here how that ended. Times are seconds since the epoch (UTC); results are JSON text.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from piecework.job import ErrorInfo, NewJob

DAY = 86_400.0  # how long a job that has ended is kept, unless its producer says otherwise
RESENT = 60.0  # seconds for which it is known who deleted a job: a call whose answer was lost is sent again sooner


class DistributedState(StrEnum):
    """Where a distributed job stands."""

    OPEN = "open"  # a producer still offers parts, or went away before it had offered all
    CLOSED = "closed"  # all parts are known, and some have not ended
    FINISHED = "finished"  # all parts are done
    FAILED = "failed"  # all parts have ended, and some failed
    STOPPED = "stopped"  # somebody stopped it: nothing of it should be begun


class PartState(StrEnum):
    """Where one part stands."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"  # until it is done after all, or opened again by `resume`


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """Some parts that a producer offers. `producer` names one run of it: a later run takes over from an earlier one."""

    token: str
    producer: str
    parts: tuple[str, ...] = ()
    begins: bool = False  # the first push of this run
    close: int | None = None  # with this push so many parts have been offered, and they are all
    complete: bool = False  # … and none of them is still to be handed over
    ttl: float | None = None
    expected: int | None = None  # how many parts there may come to be, as far as the producer knows
    then: NewJob | None = None  # stored once the job is finished
    otherwise: NewJob | None = None  # stored once it was stopped, or has failed


class PartEnd(msgspec.Struct, frozen=True):
    """How a part ended: it failed where there is an `error`. `call` is the same when the same call is sent again."""

    part: str
    call: str
    result: str | None = None
    error: ErrorInfo | None = None


class Done(msgspec.Struct, frozen=True):
    """What became of `done` or `fail`. True for the one call that finished the job, and for no other.

    `known`: there is such a part. `counted`: this call ended it. `last`: it is the part with which the job was
    finished, also when somebody says so again. `finished` and `stopped`: so is the job, now.
    """

    known: bool
    counted: bool
    last: bool
    finished: bool
    stopped: bool

    def __bool__(self) -> bool:
        return self.counted and self.last


class Resumed(msgspec.Struct, frozen=True):
    """What became of `resume`. True where the job was stopped or had failed, and goes on.

    `finished`: nothing was left to be done, so that this call finished the job; no `done` says `last` then.
    """

    resumed: bool
    finished: bool = False

    def __bool__(self) -> bool:
        return self.resumed


class PartRecord(msgspec.Struct, frozen=True):
    """One part, as the store keeps it: `number` is its place in the order in which parts were offered."""

    number: int
    part: str
    state: PartState
    failures: int = 0  # how often it failed
    ended_at: float | None = None
    result: str | None = None
    error: ErrorInfo | None = None


class DistributedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is kept of a distributed job beside its parts."""

    token: str
    producer: str
    created_at: float
    changed_at: float
    ttl: float = DAY
    total: int = 0  # parts that were ever offered
    open: int = 0  # parts that have not ended
    failed: int = 0
    sealed: bool = False  # all parts are known
    complete: bool = False  # the producer has handed over all of them
    expected: int | None = None
    push_error: ErrorInfo | None = None  # why the producer broke off
    last: str | None = None  # the part with which it was finished
    ended_at: float | None = None
    expires_at: float | None = None  # once it has ended: when it is forgotten
    stopped_at: float | None = None
    stopped_by: str | None = None
    reason: str | None = None
    base_at: float = 0.0  # since when its speed is measured …
    base_ended: int = 0  # … and how many parts had ended by then
    then: NewJob | None = None
    then_at: float | None = None  # when that was stored as a job
    otherwise: NewJob | None = None
    otherwise_at: float | None = None
    calls: tuple[tuple[str, bool], ...] = ()  # the latest that stopped or resumed it, and whether that finished it

    @property
    def state(self) -> DistributedState:
        """Where it stands."""
        if self.stopped_at is not None:
            return DistributedState.STOPPED
        if not self.sealed:
            return DistributedState.OPEN
        if self.open:
            return DistributedState.CLOSED
        return DistributedState.FAILED if self.failed else DistributedState.FINISHED

    @property
    def ended(self) -> int:
        """How many parts are done or failed."""
        return self.total - self.open

    @property
    def done(self) -> int:
        """How many parts are done."""
        return self.total - self.open - self.failed


class DistributedProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a distributed job is, at one moment.

    `total` is None while nobody knows it; before the job is closed it is what the producer expects. `share` is from 0
    to 1, `per_second` how many parts ended on average since the job began or was resumed, and `eta` the seconds until
    the last one ends at that speed.
    """

    done: int
    failed: int
    open: int
    total: int | None
    share: float | None
    per_second: float | None
    eta: float | None
