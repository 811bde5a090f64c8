"""Which visit is undone next, read from the lines of an operation; and how many lines that takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ops import Declared, a_step

from piecework import Piecework
from piecework.engine.undoing import FIRST_PAGE, next_undo
from piecework.job import AttemptRecord
from piecework.operation import OperationSpec
from piecework.plan import Undoing, read_cursor
from piecework.stepping import Step


def nothing(step: Step) -> None:
    """A step, or an undo."""


@pytest.fixture
def spec(app: Piecework) -> OperationSpec:
    main = [a_step(nothing, name="a", undo=a_step(nothing)), a_step(nothing, name="plain")]
    return Declared(app, "fulfilment", {"main": main}).spec


class Lines:
    """An operation's lines, one for each run, as a store gives them; `read` counts those that were given."""

    def __init__(self, *told: str) -> None:
        self.lines: list[AttemptRecord] = []
        self.read = 0
        for line in told:
            self.tell(*line.split())

    def attempts(self, id: str, *, before: int | None, limit: int, newest: bool) -> list[AttemptRecord]:
        assert newest
        found = [line for line in reversed(self.lines) if before is None or line.run < before][:limit]
        self.read += len(found)
        return found

    def tell(self, cursor: str, outcome: str) -> None:
        run = len(self.lines) + 1
        said = {"job": "j", "attempt": 1, "started_at": 0.0, "finished_at": float(run)}
        self.lines.append(AttemptRecord(run=run, outcome=outcome, cursor=cursor, **said))


def undone(spec: OperationSpec, lines: Lines, at: Undoing) -> Iterator[int]:
    """The visits that are undone one after the other, as a worker does it."""
    store: Any = lines
    while (place := next_undo(store, spec, spec.plan, "j", at)) is not None:
        yield place.visit
        lines.tell(place.cursor, "undone")
        there = read_cursor(Undoing(place.visit, run=place.run).cursor)
        assert isinstance(there, Undoing)
        at = there


def test_what_completed_is_undone_newest_first(spec: OperationSpec) -> None:
    lines = Lines(
        "main/a/1 completed", "main/plain/2 completed", "main/a/3 retry", "main/a/3 completed", "main/a/4 failed"
    )
    assert list(undone(spec, lines, Undoing(4))) == [3, 1]


def test_each_undo_reads_as_many_lines_as_the_others(spec: OperationSpec) -> None:
    """However many steps were completed, and however many are undone already."""
    lines = Lines(*[f"main/a/{visit} completed" for visit in range(1, 501)])
    undoing = undone(spec, lines, Undoing(501))
    for _ in range(500):
        before = lines.read
        next(undoing)
        assert lines.read - before <= FIRST_PAGE
    assert list(undoing) == []


def test_what_an_undoing_that_was_broken_off_has_undone_is_not_undone_again(spec: OperationSpec) -> None:
    """Somebody let it jump in the midst of its undoing; later it fails again."""
    lines = Lines(
        *[f"main/a/{visit} completed" for visit in (1, 2, 3)], "undo/main/a/3 undone", "undo/main/a/2/2 undone",
        *[f"main/a/{visit} completed" for visit in (4, 5)],
    )  # fmt: skip
    assert list(undone(spec, lines, Undoing(6))) == [5, 4, 1]


def test_nor_where_that_had_left_one_out_which_is_newer(spec: OperationSpec) -> None:
    """The undo of visit 3 was passed by then; now it is undone, and what was undone behind it is not undone again."""
    lines = Lines(
        *[f"main/a/{visit} completed" for visit in (1, 2, 3)], "undo/main/a/2 undone", "main/a/4 completed",
    )  # fmt: skip
    assert list(undone(spec, lines, Undoing(5))) == [4, 3, 1]


def test_a_cursor_of_before_has_every_line_read(spec: OperationSpec) -> None:
    lines = Lines("main/a/1 completed", "main/a/2 completed", "undo/main/a/2 undone")
    assert list(undone(spec, lines, Undoing(2))) == [1]
