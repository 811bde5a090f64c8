"""Many jobs by what they have in common: at which step operations stand, and which failures are one failure.

Jobs are read a page at a time, and only what is told of a group is kept: a hundred thousand of them take no more memory
than one. What moves on meanwhile is counted as it was when it was read.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from piecework.amending import awaits, status_of, step_of, was_undone
from piecework.job import OperationRecord, Record, State
from piecework.plan import walks

MOST_KINDS = 10_000  # of failures that are told apart; what is more is told as one kind
OTHER = "… other messages"
_HEAD = 300  # characters of a message by which failures are compared

# What differs between two messages of one kind: ids, addresses, numbers.
_VARIES = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\b0x[0-9a-f]+|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\d+(?:[.,:]\d+)*",
    re.IGNORECASE,
)

_FRAME = re.compile(r'\n  File "(.{1,1000}?)", line (\d+), in (.{1,200})')


class StepCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many operations of one name stand at one step in one way.

    `status` is in the words of `Operation.status`. `oldest` and `newest` are since when the first and the last of them
    stand so, or when they are due; `example` is the id of the first.
    """

    operation: str
    state: State
    step: str | None  # "branch/step"
    status: str
    waits_for: str | None  # the signal
    count: int
    oldest: datetime
    newest: datetime
    example: str


class FailureKind(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one task, at one step, out of one function, with one class and one message but for its numbers and ids.

    `error` is the class; None where there was no error but a reason, as of what is parked. `message` is the first line of
    the newest one's, `raised_in` the function and line that it came out of ("set_up (shop.py:12)"), as far as its traceback
    tells. An operation that was undone is at no step. `oldest` and `newest` are when the first and the last came, and `example` is the id of the newest.
    """

    task: str
    step: str | None  # "branch/step" of an operation
    state: State
    error: str | None
    message: str
    raised_in: str | None
    count: int
    oldest: datetime
    newest: datetime
    example: str


def stands_since(record: Record) -> float:
    """Since when a job stands as it does; of one that is available, when it is or was due."""
    moments = {State.AVAILABLE: record.run_at, State.RUNNING: record.started_at}
    moment = moments.get(record.state, record.finished_at)
    return moment or record.started_at or record.created_at


class _Group:
    """What is known of jobs that are alike: how many, the ids of the first and the last, and what and where that one said."""

    __slots__ = ("count", "first", "last", "newest", "oldest", "place", "said")

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = self.said = self.place = ""
        self.oldest, self.newest = math.inf, -math.inf

    def add(self, record: Record, said: str = "", place: str = "") -> None:
        at = stands_since(record)
        self.count += 1
        if at < self.oldest:
            self.first, self.oldest = record.id, at
        if at >= self.newest:
            self.last, self.newest, self.said, self.place = record.id, at, said, place

    @property
    def span(self) -> dict[str, datetime]:
        """The moments of the first and the last."""
        return {name: datetime.fromtimestamp(getattr(self, name), UTC) for name in ("oldest", "newest")}


class StepCounts:
    """Counts operations by where they stand; `kept` has what is kept beside those whose status needs it."""

    NEED = frozenset({State.WAITING, State.AVAILABLE, State.CANCELLED})

    def __init__(self, now: float) -> None:
        self._now = now
        self._groups: dict[tuple[str, State, str | None, str, str | None], _Group] = defaultdict(_Group)

    def add(self, records: Iterable[Record], kept: Mapping[str, OperationRecord]) -> None:
        for record in records:
            own, place = kept.get(record.id), step_of(record)
            wait = own.wait if own is not None and awaits(record) else None
            status = status_of(record, own, self._now)
            if was_undone(record):
                status = f"{status}, undone"
            elif place is not None and place.undoing and not status.startswith("undoing"):
                status = f"{status}, undoing it"
            key = (
                record.task,
                record.state,
                None if place is None else place.name,
                status,
                None if wait is None else wait.name,
            )
            self._groups[key].add(record)

    def told(self) -> list[StepCount]:
        """By name, the largest groups first."""
        found = [
            StepCount(
                operation=task, state=state, step=step, status=status, waits_for=signal, count=group.count,
                example=group.first, **group.span,
            )
            for (task, state, step, status, signal), group in self._groups.items()
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one.operation, -one.count, one.status))


class FailureKinds:
    """Puts failures together that are alike."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, State, str | None, str, str], _Group] = defaultdict(_Group)

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            kind, message = _said(record)
            if message is None:
                continue
            place = step_of(record) if walks(record) else None
            function, raised_in = _raised_in("" if record.error is None else record.error.traceback)
            step = None if place is None else place.name
            key = (record.task, step, record.state, kind, pattern(message), function)
            if key not in self._groups and len(self._groups) >= MOST_KINDS:
                key = (record.task, step, record.state, kind, OTHER, "")
            self._groups[key].add(record, _first_line(message), raised_in)

    def told(self) -> list[FailureKind]:
        """The most frequent first; of two, the one that came last."""
        found = [
            FailureKind(
                task=task, step=step, state=state, error=kind, count=group.count, example=group.last, **group.span,
                message=OTHER if head is OTHER else group.said, raised_in=(head is not OTHER and group.place) or None,
            )
            for (task, step, state, kind, head, _), group in self._groups.items()
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-one.count, -one.newest.timestamp()))


def _said(record: Record) -> tuple[str | None, str | None]:
    """The class and the message of what became of a job."""
    if record.error is not None:
        return record.error.type, record.error.message
    return None, record.reason


def _raised_in(traceback: str) -> tuple[str, str]:
    """The function of a traceback's last frame that is not of piecework, and that with its file and line; empty without one."""
    end = len(traceback)
    while (at := traceback.rfind('\n  File "', 0, end)) >= 0:
        if (frame := _FRAME.match(traceback, at)) is not None:
            parts = frame[1].replace("\\", "/").split("/")
            if parts[-2:-1] != ["piecework"]:  # where `step["…"]` raises for a global that is not there
                return frame[3], f"{frame[3]} ({parts[-1]}:{frame[2]})"
        end = at
    return "", ""


def _first_line(message: str) -> str:
    return message.strip().split("\n", 1)[0][:_HEAD]


def pattern(message: str) -> str:
    """The first line of a message without what differs between two of one kind."""
    return _VARIES.sub("#", _first_line(message))
