"""What an operation undoes next: read from its lines, newest first, so that a crash between two undos forgets none.

The cursor of an undo says behind which run nothing is to be looked for any more. So the thousandth undo costs what the
first did, however many lines there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from piecework.engine.spots import called
from piecework.errors import BadArguments
from piecework.job import AttemptRecord
from piecework.operation import OperationSpec
from piecework.plan import Place, Plan, Undoing, read_cursor
from piecework.store.protocol import Store

FIRST_PAGE, PAGE = 10, 1000  # most often the line before is the one that is looked for


def next_undo(store: Store, operation: OperationSpec, plan: Plan, id: str, at: Undoing) -> Place | None:
    """The newest visit before `at` that was completed, was not undone yet, and has an undo; None where none is left.

    Raises `BadArguments` for a step whose undo the code does not have, and for one that it does not know where the plan
    does not tell whether it had one.
    """
    undone: set[int] = set()
    for line, place in _newest_first(store, id, at.run):
        if line.outcome == "undone":
            undone.add(place.visit)
        elif place.visit < at.before and place.visit not in undone and _has_undo(operation, plan, place):
            return Place(place.branch, place.step, place.visit, undoing=True, run=_onward(at, line, place, undone))
    return None


def _onward(at: Undoing, line: AttemptRecord, place: Place, undone: set[int]) -> int | None:
    """The run before which the next one is looked for: that of this line.

    Where lines behind it say that an earlier visit was undone, which was by an undoing that did not come to its end, they
    are to be read again.
    """
    return at.run if any(visit < place.visit for visit in undone) else line.run


def _has_undo(operation: OperationSpec, plan: Plan, place: Place) -> bool:
    """By the code, or by the plan with which the operation began: what was promised there is not left out in silence."""
    if plan.undoes is None:
        return called(operation, _step(place)).undo is not None
    step = operation.step(place.step)
    if step is not None and step.undo is not None:
        return True
    if place.step in plan.undoes:
        raise BadArguments(
            f"the step {place.name} (visit {place.visit}) had an undo when the operation began, and this worker's code has "
            "none for it; bring it back, with retired=[step(…, undo=…)] if need be, or let the operation jump"
        )
    return False


def _step(place: Place) -> Place:
    return Place(place.branch, place.step, place.visit)


def _newest_first(store: Store, id: str, before: int | None) -> Iterator[tuple[AttemptRecord, Place]]:
    """The lines of steps that were completed or undone, and which."""
    limit = FIRST_PAGE
    while page := store.attempts(id, before=before, limit=limit, newest=True):
        for line in page:
            place = read_cursor(line.cursor) if line.cursor is not None else None
            if isinstance(place, Place) and line.outcome in ("completed", "undone"):
                yield line, place
        before, limit = page[-1].run, PAGE
