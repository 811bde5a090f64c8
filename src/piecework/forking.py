"""Forks: a new operation that begins where another one was, with the globals that there were then."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec.structs import replace

from piecework.errors import UsageError
from piecework.ids import new_id
from piecework.job import NewJob, NewOperation, Route, SignalRecord, Wait, as_utc
from piecework.operation import OperationSpec
from piecework.overview import StepView
from piecework.plan import Place, Plan
from piecework.trail import COMPLETED, UNDONE, StepRun
from piecework.walk import Walk, onward

if TYPE_CHECKING:
    from piecework.app import Piecework
    from piecework.operations import Operation
    from piecework.operationtask import OperationTask

WENT_ON = (COMPLETED, UNDONE, "skipped", "timed out")  # lines of an operation that has left a place


def fork(app: Piecework, source: Operation[Any], after: Any, values: dict[str, Any]) -> str:
    """Stores the fork of an operation, and returns its id."""
    record = source.record()
    task = cast("OperationTask[Any, Any]", app.task_of(app.registry[record.task]))
    if after is None:
        text, changes = task.edited(record.args, values)
        place = task.plan.first
        operation = NewOperation(place.cursor, task.plan.digest, task.plan.text, changes, forked_from=source.id)
        (stored,) = app.add([task.begun(new_id(), text, operation, place)])
        return stored
    (stored,) = app.add([_behind(app, source, task, after, values)])
    return stored


def _behind(
    app: Piecework, source: Operation[Any], task: OperationTask[Any, Any], after: Any, values: dict[str, Any]
) -> NewJob:
    """A fork that begins behind a completed step: where, when and after which signal that step said."""
    behind, until = _completed(source, after)
    route = behind.route or Route()
    place = _on(task, _next(source, behind, route))
    wait = None if route.wait is None else _wait_on(task, route.wait)
    came = None if wait is None else _signal(app.store.signals(source.id), wait.name, behind.finished_at, until)
    text, changes = task.edited(msgspec.json.encode(dict(behind.after or {})).decode(), values)
    plan = task.plan
    new = NewOperation(place.cursor, plan.digest, plan.text, changes, forked_from=source.id, forked_after=behind.visit)
    job = task.begun(new_id(), text, new, place)
    spec = cast(OperationSpec, app.registry[source.task].operation)
    walk = Walk(spec, plan, place, job.queue, job.priority)
    there = onward(walk, place, app.store.now(), pause=route.pause, wait=None if came is not None else wait)
    new = replace(new, wait=there.wait or wait, received=None if came is None else came.payload)
    return replace(job, state=there.state, run_at=None, delay=there.delay, operation=new)


def _completed(source: Operation[Any], after: Any) -> tuple[StepRun, datetime | None]:
    """The completed step behind which a fork begins, and when the operation left the place where it came then.

    Raises `UsageError` where there is no such step.
    """
    visit = after.visit if isinstance(after, StepRun | StepView | Place) else after
    if isinstance(after, StepView) and visit is None:  # another branch may have come to a step of that name
        raise _not_completed(source, f"step {after.branch}/{after.name}")
    name = None if isinstance(visit, int) and not isinstance(visit, bool) else source.name_of(visit)
    found, until = None, None
    for run in source.runs():
        if run.outcome == COMPLETED and (run.visit == visit if name is None else run.name == name):
            found, until = run, None
        elif found is not None and until is None and run.outcome in WENT_ON:
            until = run.finished_at if run.outcome in (COMPLETED, "skipped") else found.finished_at
    if found is None:
        raise _not_completed(source, f"step {name!r}" if name is not None else f"visit {visit}")
    moved = (as_utc(line.at) for line in source.amendments() if line.cursor is not None)
    left = [at for at in (until, *moved) if at is not None and at >= found.finished_at]
    return found, min(left, default=None)


def _not_completed(source: Operation[Any], what: str) -> UsageError:
    return UsageError(f"operation {source.id} has no completed {what}; fork it after one of those that its steps show")


def _next(source: Operation[Any], behind: StepRun, route: Route) -> Place:
    """Where the operation went after a step: it may have jumped. Raises `UsageError` where that was its end.

    All of it is in the step's own line: where the operation is by now does not matter.
    """
    plan = source.plan
    following = plan.after(behind.place) if route.jump is None else plan.at(route.jump, behind.visit + 1)
    if following is None:
        raise UsageError(f"operation {source.id} ended with {behind.place.name}; there is nothing behind it")
    return following


def _signal(signals: Iterable[SignalRecord], name: str, begun: datetime, until: datetime | None) -> SignalRecord | None:
    """The signal that the wait behind a step has taken, if it took one before the operation left it."""
    for signal in signals:
        taken = as_utc(signal.taken_at)
        if signal.name == name and taken is not None and taken >= begun and (until is None or taken <= until):
            return signal
    return None


def _wait_on(task: OperationTask[Any, Any], wait: Wait) -> Wait:
    """A wait of an older plan on that of the code."""
    if wait.otherwise is None:
        return wait
    place = _on(task, task.plan.at(wait.otherwise, 1))
    return replace(wait, otherwise=place.name)


def _on(task: OperationTask[Any, Any], place: Place) -> Place:
    """A place of an older plan on that of the code. Raises `UsageError` where it is not there any more."""
    plan: Plan = task.plan
    name = task.present_name(place.step)
    if name not in plan.branches.get(place.branch, ()):
        raise UsageError(
            f"the plan of {task.name} has no step {place.name} any more; fork after another step, or from the beginning"
        )
    return Place(place.branch, name, place.visit)
