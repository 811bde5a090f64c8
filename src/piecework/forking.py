"""Forks: a new operation that begins where another one was, with the globals that there were then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from piecework.errors import UsageError
from piecework.ids import new_id
from piecework.job import NewOperation
from piecework.plan import Place, Plan
from piecework.trail import COMPLETED, StepRun, place_of

if TYPE_CHECKING:
    from piecework.app import Piecework
    from piecework.operations import Operation
    from piecework.operationtask import OperationTask


def fork(app: Piecework, source: Operation[Any], after: Any, values: dict[str, Any]) -> str:
    """Stores the fork of an operation, and returns its id."""
    record = source.record()
    task = cast("OperationTask[Any, Any]", app.task_of(app.registry[record.task]))
    if after is None:
        place, globals, visits = task.plan.first, record.args, None
    else:
        behind = _completed(source, after)
        place, visits = _on(task, _next(source, behind)), behind.visit
        globals = msgspec.json.encode(dict(behind.after or {})).decode()
    text, changes = task.edited(globals, values)
    plan = task.plan
    operation = NewOperation(place.cursor, plan.digest, plan.text, changes, forked_from=source.id, forked_after=visits)
    job = task.begun(new_id(), text, operation, place)
    (stored,) = app.add([job])
    return stored


def _completed(source: Operation[Any], after: Any) -> StepRun:
    """The completed step behind which a fork begins. Raises `UsageError` where there is none."""
    visit = after.visit if isinstance(after, StepRun | Place) else after
    name = None if isinstance(visit, int) else source.name_of(after)
    found = None
    for run in source.runs():
        if run.outcome == COMPLETED and (run.visit == visit if name is None else run.name == name):
            found = run
    if found is None:
        what = f"step {name!r}" if name is not None else f"visit {visit}"
        raise UsageError(
            f"operation {source.id} has no completed {what}; fork it after one of those that its steps show"
        )
    return found


def _next(source: Operation[Any], behind: StepRun) -> Place:
    """Where the operation went after a step: it may have jumped. Raises `UsageError` where that was its end."""
    visit = behind.visit + 1
    for run in source.runs():
        if run.visit == visit and not run.place.undoing:
            return Place(run.branch, run.name, visit)
    record = source.record()
    cursors = [record.cursor, *(line.cursor_before for line in source.amendments())]
    for place in map(place_of, cursors):
        if isinstance(place, Place) and place.visit == visit and not place.undoing:
            return Place(place.branch, place.step, visit)
    following = source.plan.after(behind.place)
    if following is None or (record.state.finished and place_of(record.cursor) == behind.place):
        raise UsageError(f"operation {source.id} ended with {behind.place.name}; there is nothing behind it")
    return following


def _on(task: OperationTask[Any, Any], place: Place) -> Place:
    """A place of an older plan on that of the code. Raises `UsageError` where it is not there any more."""
    plan: Plan = task.plan
    name = task.present_name(place.step)
    if name not in plan.branches.get(place.branch, ()):
        raise UsageError(
            f"the plan of {task.name} has no step {place.name} any more; fork after another step, or from the beginning"
        )
    return Place(place.branch, name, place.visit)
