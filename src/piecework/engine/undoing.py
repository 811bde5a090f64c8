"""What an operation undoes next: read from its lines, newest first, so that a crash between two undos forgets none."""

from __future__ import annotations

from piecework.engine.spots import called
from piecework.job import AttemptRecord
from piecework.operation import OperationSpec
from piecework.plan import Place, read_cursor
from piecework.store.protocol import Store

PAGE = 1000


def next_undo(store: Store, operation: OperationSpec, id: str, before: int) -> Place | None:
    """The newest visit before a number that was completed, was not undone yet, and has an undo; None where none is left.

    Raises `BadArguments` for a step that the code does not know: it may have had an undo.
    """
    done: dict[int, Place] = {}
    after = -1
    while page := store.attempts(id, after=after, limit=PAGE):
        for line in page:
            _note(line, done)
        after = page[-1].run
    for visit in sorted(done, reverse=True):
        there = Place(done[visit].branch, done[visit].step, visit)
        if visit < before and called(operation, there).undo is not None:
            return Place(there.branch, there.step, visit, undoing=True)
    return None


def _note(line: AttemptRecord, done: dict[int, Place]) -> None:
    """Keeps the visits that were completed and not undone."""
    if line.cursor is None or line.outcome not in ("completed", "undone"):
        return
    place = read_cursor(line.cursor)
    if not isinstance(place, Place):
        return
    if line.outcome == "completed":
        done[place.visit] = place
    else:
        done.pop(place.visit, None)
