"""What became of an operation, step by step: read from the lines that are kept of its runs and of what was done by hand."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from piecework.job import AmendmentRecord, AttemptRecord, Change, ErrorInfo, Route, SignalRecord, as_utc, fold
from piecework.plan import Place, Undoing, read_cursor

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_plain = msgspec.json.Decoder().decode

COMPLETED, UNDONE = "completed", "undone"


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one step: where, when, by whom, and what it came to.

    `outcome` is "completed", "undone", "skipped", "timed out", or what else becomes of a run: retry, failed, snoozed, …
    `globals` are those after it, where it has changed them or could have; None for an attempt that came to nothing.
    """

    place: Place
    outcome: str
    run: int
    attempt: int
    started_at: datetime | None
    finished_at: datetime
    worker: str | None
    error: ErrorInfo | None
    reason: str | None
    changes: tuple[Change, ...]
    after: Mapping[str, msgspec.Raw] | None = None
    route: Route | None = None  # what the step said of the way on, if it did

    @property
    def name(self) -> str:
        """The step's name."""
        return self.place.step

    @property
    def branch(self) -> str:
        """The branch that it is in."""
        return self.place.branch

    @property
    def visit(self) -> int:
        """How many steps the operation had come to, this one included."""
        return self.place.visit

    @property
    def globals(self) -> dict[str, Any] | None:
        """The globals after this step."""
        return None if self.after is None else {key: _plain(raw) for key, raw in self.after.items()}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an operation's timeline. `what` is the outcome of a step, what was done by hand, or "signal"."""

    at: datetime
    what: str
    step: str | None = None  # "branch/step"
    visit: int | None = None
    by: str | None = None  # who did it: a worker, or somebody
    reason: str | None = None
    error: ErrorInfo | None = None
    signal: str | None = None
    changes: tuple[Change, ...] = ()


def step_runs(begin: str, lines: Iterable[AttemptRecord], amendments: Iterable[AmendmentRecord]) -> Iterator[StepRun]:
    """Every attempt of a step, oldest first; `begin` are the globals that the operation started with.

    Memory is bounded by one document of globals and its differences, however many lines there are.
    """
    globals = _raw.decode(begin)
    edits = [amendment for amendment in amendments if amendment.changes]
    for line, is_last in _marked(lines):
        while edits and _before(edits[0], line, is_last):
            fold(globals, edits.pop(0).changes)
        fold(globals, line.changes)
        place = place_of(line.cursor)
        if isinstance(place, Place):
            yield _step_run(line, place, dict(globals) if line.outcome in (COMPLETED, UNDONE) else None)


def _marked(lines: Iterable[AttemptRecord]) -> Iterator[tuple[AttemptRecord, bool]]:
    """Each line, and whether it is the last."""
    before: AttemptRecord | None = None
    for line in lines:
        if before is not None:
            yield before, False
        before = line
    if before is not None:
        yield before, True


def _before(edit: AmendmentRecord, line: AttemptRecord, is_last: bool) -> bool:
    """Whether an edit was made before the end of a run.

    Where the operation has moved on since, its place tells; the moments of two who waited for each other need not.
    """
    if edit.run != line.run:
        return edit.run < line.run
    if edit.cursor_before != line.cursor:
        return False
    return not is_last or edit.at <= line.finished_at


def _step_run(line: AttemptRecord, place: Place, after: Mapping[str, msgspec.Raw] | None) -> StepRun:
    finished = as_utc(line.finished_at)
    assert finished is not None
    return StepRun(
        place=place,
        outcome=line.outcome,
        run=line.run,
        attempt=line.attempt,
        started_at=as_utc(line.started_at),
        finished_at=finished,
        worker=line.worker,
        error=line.error,
        reason=line.reason,
        changes=line.changes,
        after=after,
        route=line.route,
    )


def place_of(cursor: str | None) -> Place | Undoing | None:
    """Where a line's cursor points; None where it has none."""
    return None if cursor is None else read_cursor(cursor)


# ── the timeline ─────────────────────────────────────────────────────────────────────────────────


def timeline(
    lines: Iterable[AttemptRecord], amendments: Iterable[AmendmentRecord], signals: Iterable[SignalRecord]
) -> Iterator[Event]:
    """Steps, signals and what was done by hand, by time."""
    streams = (map(_of_line, lines), map(_of_amendment, amendments), map(_of_signal, signals))
    return heapq.merge(*streams, key=lambda event: event.at)


def _of_line(line: AttemptRecord) -> Event:
    place = place_of(line.cursor)
    step, visit = (place.name, place.visit) if isinstance(place, Place) else (None, None)
    return Event(
        at=_moment(line.finished_at),
        what=line.outcome,
        step=step,
        visit=visit,
        by=line.worker,
        reason=line.reason,
        error=line.error,
        changes=line.changes,
    )


def _of_amendment(amendment: AmendmentRecord) -> Event:
    place = place_of(amendment.cursor or amendment.cursor_before)
    step, visit = (place.name, place.visit) if isinstance(place, Place) else (None, None)
    return Event(
        at=_moment(amendment.at),
        what=amendment.what,
        step=step,
        visit=visit,
        by=amendment.by,
        reason=amendment.reason or None,
        changes=amendment.changes,
    )


def _of_signal(signal: SignalRecord) -> Event:
    return Event(at=_moment(signal.at), what="signal", by=signal.by, signal=signal.name)


def _moment(seconds: float) -> datetime:
    moment = as_utc(seconds)
    assert moment is not None
    return moment
