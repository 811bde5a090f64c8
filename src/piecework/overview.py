"""An operation at a glance: each of its steps once for every visit, with what became of it; then those still to come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from piecework.job import AmendmentRecord, ErrorInfo, Record, State, as_utc
from piecework.plan import MAIN, Place, Plan, Undoing, read_cursor
from piecework.trail import COMPLETED, UNDONE, StepRun

SPENT = frozenset({COMPLETED, "retry", "failed", "timed out"})  # what a run that spent an attempt came to
PENDING, SKIPPED, RETRYING, SCHEDULED = "pending", "skipped", "retrying", "scheduled"


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One visit of one step, or a step that was not come to.

    `state` is "pending", "scheduled", "running", "waiting", "retrying", "completed", "failed", "cancelled", "parked",
    "skipped", "timed out" or "undone"; `visit` is None where it was not come to. `attempts` counts what was spent, ever.
    `error` is that of a step that has not completed; those of earlier attempts are in `runs`, every attempt of it.
    """

    name: str
    branch: str
    state: str
    visit: int | None = None
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    error: ErrorInfo | None = None
    runs: tuple[StepRun, ...] = ()

    @property
    def globals(self) -> dict[str, Any] | None:
        """The globals after it, where it has completed."""
        ends = [run for run in self.runs if run.outcome == COMPLETED]
        return ends[-1].globals if ends else None


def overview(
    record: Record, plan: Plan, runs: Iterable[StepRun], amendments: Iterable[AmendmentRecord], now: float
) -> list[StepView]:
    """The steps of an operation: those that it came to, in that order, then the others in the order of the plan."""
    visits: dict[int, list[StepRun]] = {}
    for run in runs:
        visits.setdefault(run.visit, []).append(run)
    passed = _passed_by_hand(amendments)
    for visit in passed:  # it may have been moved on before anything ran there
        visits.setdefault(visit, [])
    here = read_cursor(record.cursor) if record.cursor is not None else None
    if isinstance(here, Place) and not here.undoing:
        visits.setdefault(here.visit, [])
    views = [_view(visit, visits[visit], here, record, passed, now) for visit in sorted(visits)]
    return [*views, *_others(record, plan, here, views)]


def _passed_by_hand(amendments: Iterable[AmendmentRecord]) -> dict[int, Place]:
    """The visits that somebody went away from."""
    places = [read_cursor(a.cursor_before) for a in amendments if a.cursor and a.cursor_before]
    return {place.visit: place for place in places if isinstance(place, Place)}


def _view(
    visit: int, runs: list[StepRun], here: Place | Undoing | None, record: Record, passed: dict[int, Place], now: float
) -> StepView:
    is_here = isinstance(here, Place) and here.visit == visit and not here.undoing
    place = runs[0].place if runs else here if is_here and isinstance(here, Place) else passed[visit]
    own = [run for run in runs if not run.place.undoing]
    leaves = isinstance(here, Place) and here.skipping
    state = _ended_as(runs) or (
        _stands(record, now) if is_here and not leaves else SKIPPED if visit in passed else _last(own)
    )
    done = state in (COMPLETED, UNDONE)
    current = is_here and state not in (COMPLETED, UNDONE, SKIPPED)
    live = current and record.state in (State.RUNNING, State.WAITING)
    return StepView(
        name=place.step,
        branch=place.branch,
        state=state,
        visit=visit,
        attempts=_spent(run.attempt for run in own if run.outcome in SPENT),
        started_at=as_utc(record.started_at) if live else own[0].started_at if own else None,
        finished_at=runs[-1].finished_at if runs and not current else None,
        worker=record.worker if live else own[-1].worker if own else None,
        error=None if done else record.error if current else own[-1].error if own else None,
        runs=tuple(runs),
    )


def _spent(numbers: Iterable[int]) -> int:
    """How many attempts were spent, by their numbers: the lines of many are not kept, and a retry by hand begins with 1.

    Of a retry by hand nothing is known here where its lines are among those that are not kept.
    """
    total, last = 0, 0
    for number in numbers:
        total += number - last if number > last else number
        last = number
    return total


def _ended_as(runs: list[StepRun]) -> str | None:
    """How a visit ended that ended well."""
    outcomes = {run.outcome for run in runs}
    return next((said for said in (UNDONE, COMPLETED, "timed out") if said in outcomes), None)


def _last(runs: list[StepRun]) -> str:
    """How a visit ended that is over, and did not end well."""
    return runs[-1].outcome if runs else SKIPPED


def _stands(record: Record, now: float) -> str:
    """How it stands with the step where the operation is."""
    if record.state is State.AVAILABLE:
        return RETRYING if record.attempt else SCHEDULED if record.run_at > now else PENDING
    return COMPLETED if record.state is State.COMPLETED else str(record.state)


def _others(record: Record, plan: Plan, here: Place | Undoing | None, views: list[StepView]) -> Iterator[StepView]:
    """The steps that were not come to: pending, or passed by."""
    known = {(view.branch, view.name) for view in views}
    entered = {branch for branch, _ in known}
    for branch in sorted(plan.branches, key=lambda name: name != MAIN):
        steps = plan.branches[branch]
        reached = max((n for n, step in enumerate(steps) if (branch, step) in known), default=-1)
        for n, step in enumerate(steps):
            if (branch, step) not in known:
                passed = record.state is State.COMPLETED or (branch in entered and n < reached)
                yield StepView(name=step, branch=branch, state=SKIPPED if passed else PENDING)
