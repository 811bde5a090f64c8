"""What may be done to an operation by hand, judged by where it stands; the words for what may not."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from piecework.errors import UsageError
from piecework.job import OperationRecord, Record, State
from piecework.operation import OperationSpec
from piecework.options import TaskOptions, check_text, effective
from piecework.plan import Place, Undoing, read_cursor


def step_of(record: Record) -> Place | None:
    """The step where an operation is; None while it looks for what to undo, and once it was undone."""
    place = read_cursor(record.cursor or "")
    return place if isinstance(place, Place) else None


def awaits(record: Record) -> bool:
    """Whether an operation waits for a signal, and not for its pieces."""
    return record.state is State.WAITING and record.below is None


def status_of(record: Record, kept: OperationRecord | None, now: float) -> str:
    """Where an operation stands, in a few words; `kept` is what its store keeps of it beside its job, `now` is the store's."""
    step = step_of(record)
    if record.state is State.COMPLETED:
        return "completed"
    if record.state is State.CANCELLED and kept is not None and kept.ending is not None and not was_undone(record):
        return "cancelled, undoing left unfinished" + ("" if step is None else f" at {step.name}")
    if record.state.finished or record.state is State.PARKED:
        return str(record.state) if step is None else f"{record.state} at {step.name}"
    if step is None or step.undoing:
        return "undoing" if step is None else f"undoing {step.name}"
    if kept is not None and kept.wait is not None and awaits(record):
        return f"waiting for {kept.wait.name}"
    if record.state is State.WAITING:
        return (
            f"waiting for the pieces of {step.name}" if step.composing else f"waiting for the batch before {step.name}"
        )
    if record.state is not State.AVAILABLE:
        return f"{record.state} {step.name}"
    if kept is not None and kept.ending is not None:
        return f"undoing what was before {step.name}"
    return f"{'scheduled' if record.run_at > now else 'due'}: {'behind ' if step.skipping else ''}{step.name}"


def skipped(record: Record) -> tuple[Place, str]:
    """The step that is skipped, and the cursor behind it. Raises `UsageError` where there is nothing to skip."""
    if record.state is State.COMPLETED:
        raise UsageError(f"operation {record.id} has completed; there is nothing to skip")
    place = step_of(record)
    if place is None:
        raise UsageError(f"operation {record.id} undoes what it did, and is at no step; let it jump, or fork it")
    if place.undoing:
        return place, Undoing(place.visit, run=place.run).cursor
    return place, msgspec.structs.replace(place, composing=False, skipping=True).cursor


def was_undone(record: Record) -> bool:
    """Whether everything that an operation did was undone: there is no step to go on with."""
    place = read_cursor(record.cursor or "") if record.cursor is not None and "/" in record.cursor else None
    return isinstance(place, Undoing) and place.over


def must_not_be_undone(record: Record, states: Collection[State]) -> None:
    """Raises `UsageError` where an operation in one of these states was undone."""
    if record.state in states and was_undone(record):
        raise UsageError(why_undone(record))


def why_undone(record: Record) -> str:
    """What keeps an operation that was undone from going on."""
    return f"operation {record.id} was undone; fork it, let it jump_to a step, or start another"


def must_be_movable(record: Record) -> None:
    """Raises `UsageError` where an operation cannot be moved as it is."""
    step = step_of(record)
    where = "" if step is None else f" ({step.name})"
    if record.state is State.RUNNING:
        said = f"runs a step{where}; cancel it first, or wait until that has ended"
    elif record.state is State.COMPLETED:
        said = "has completed; fork it, or start another"
    elif record.state is State.WAITING and not awaits(record) and step is not None and not step.composing:
        said = "waits for the batch before it; cancel it, or wait until that has ended"
    elif record.state is State.WAITING and not awaits(record):
        said = f"waits for the pieces of a step{where}; cancel it first, or wait until they have settled"
    else:
        return
    raise UsageError(f"operation {record.id} {said}")


def whereabouts(
    operation: OperationSpec, options: TaskOptions, record: Record, place: Place, now: Callable[[], float]
) -> dict[str, Any]:
    """Through which queue, with which priority, and after how long an operation comes to a place."""
    step = operation.step(place.step)
    if step is None:
        return {}
    own = effective(options, record.options)
    delay = max(step.delay or 0.0, 0.0 if step.at is None else step.at - now())
    return {
        "queue": step.options.get("queue", own.queue),
        "priority": step.options.get("priority", own.priority),
        "delay": delay if delay > 0 else None,
    }


def check_why(reason: Any) -> str:
    """The reason that is kept in the line of what was done."""
    return check_text(reason, "reason")
