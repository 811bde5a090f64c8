"""What became of an operation's steps, as its lines tell; and what of its way some code does not know."""

from __future__ import annotations

from typing import Any

import pytest

from piecework.ahead import Ahead, ahead
from piecework.branches import branch
from piecework.declare import declare
from piecework.errors import BadArguments
from piecework.job import AmendmentRecord, AttemptRecord, Change, SignalRecord
from piecework.operation import OperationSpec
from piecework.plan import Place, Plan
from piecework.start import Globals, as_changes
from piecework.steps import step
from piecework.trail import step_runs, timeline


def line(run: int, cursor: str, outcome: str = "completed", at: float = 0.0, **changes: int | None) -> AttemptRecord:
    made = tuple(Change(key, None if value is None else str(value)) for key, value in changes.items())
    return AttemptRecord(
        job="j",
        run=run,
        attempt=1,
        outcome=outcome,
        started_at=1.0,
        finished_at=at or 10.0 * run,
        cursor=cursor,
        changes=made,
    )


def edit(run: int, at: float, cursor: str = "main/b/2", **changes: int | None) -> AmendmentRecord:
    made = tuple(Change(key, None if value is None else str(value)) for key, value in changes.items())
    return AmendmentRecord(id=f"{run}", job="j", run=run, what="edited", by="ann", reason="", at=at, changes=made,
                           cursor_before=cursor)  # fmt: skip


def told(*args: Any) -> list[tuple[str, int, str, dict[str, Any] | None]]:
    return [(run.name, run.visit, run.outcome, run.globals) for run in step_runs(*args)]


def test_globals_fold_step_by_step() -> None:
    lines = [
        line(1, "main/a/1", a=1),
        line(2, "main/b/2", "retry"),
        line(3, "main/b/2", a=None, b=2),
        line(4, "main/c/3"),
    ]
    assert told('{"n":0}', lines, []) == [
        ("a", 1, "completed", {"n": 0, "a": 1}),
        ("b", 2, "retry", None),
        ("b", 2, "completed", {"n": 0, "b": 2}),
        ("c", 3, "completed", {"n": 0, "b": 2}),
    ]


def test_an_edit_by_hand_is_seen_by_the_steps_that_ended_after_it() -> None:
    """During a run, before it, and between two: judged by the run that the operation was at, and then by the time."""
    lines = [line(1, "main/a/1", at=10.0, x=1), line(2, "main/b/2", at=20.0), line(3, "main/c/3", at=30.0, x=3)]
    during, between = edit(1, 5.0, "main/a/1", x=0, y=1), edit(2, 25.0, "main/c/3", x=9)
    after = edit(3, 35.0, "main/c/3", x=99)
    assert [globals for *_, globals in told("{}", lines, [during, between, after])] == [
        {"x": 1, "y": 1},
        {"x": 1, "y": 1},
        {"x": 3, "y": 1},
    ]


def test_where_the_operation_was_tells_what_came_first_and_not_the_clocks_of_two_who_waited_for_each_other() -> None:
    lines = [line(1, "main/a/1", at=10.0, x=1), line(2, "main/b/2", at=20.0, y=1)]
    behind_it = edit(1, 9.0, "main/b/2", x=2)  # it began before the step's end was recorded, and was made after that
    ahead_of_it = edit(1, 11.0, "main/a/1", x=2)
    assert [globals for *_, globals in told("{}", lines, [behind_it])] == [{"x": 1}, {"x": 2, "y": 1}]
    assert [globals for *_, globals in told("{}", lines, [ahead_of_it])] == [{"x": 1}, {"x": 1, "y": 1}]
    at_the_end = [edit(2, 19.0, "main/b/2", z=1), edit(2, 21.0, "main/b/2", z=2)]
    assert [globals for *_, globals in told("{}", lines, at_the_end)][-1] == {"x": 1, "y": 1, "z": 1}


def test_lines_of_the_undoing_between_steps_are_no_steps() -> None:
    lines = [
        line(1, "main/a/1"),
        line(2, "main/b/2", "failed"),
        line(3, "undo/main/a/1", "undone", a=7),
        line(4, "undo/1", "failed"),
    ]
    assert told("{}", lines, []) == [("a", 1, "completed", {}), ("b", 2, "failed", None), ("a", 1, "undone", {"a": 7})]


def test_the_timeline_has_everything_by_time() -> None:
    signal = SignalRecord(id="s", job="j", name="ok", payload="1", by="bob", at=15.0)
    lines = [line(1, "main/a/1", at=10.0), line(2, "undo/1", "failed", at=30.0)]
    events = list(timeline(lines, [edit(1, 20.0)], [signal]))
    assert [(e.what, e.step, e.by, e.signal) for e in events] == [
        ("completed", "main/a", None, None),
        ("signal", None, "bob", "ok"),
        ("edited", "main/b", "ann", None),
        ("failed", None, None, None),
    ]
    assert [e.at.timestamp() for e in events] == [10.0, 15.0, 20.0, 30.0]


# ── what is before it ────────────────────────────────────────────────────────────────────────────


def named(name: str) -> Any:
    def function(step: Any) -> None: ...

    function.__name__ = name
    return function


OLD = Plan({"main": ("a", "b", "c"), "red": ("r", "c"), "blue": ("x",)}, {"red": "main/b"})


def code(*names: str, **aliases: str) -> OperationSpec:
    made = [step(named(name), aliases=[aliases[name]] if name in aliases else [], undo=named("undo")) for name in names]
    return declare("f", {"main": made}, {})


@pytest.mark.parametrize(
    ("known", "cursor", "missing", "jumps"),
    [
        (code("a", "b", "c", "r", "x"), "main/a/1", (), ()),
        (code("a", "c", "r", "x"), "main/a/1", ("b",), ()),
        (code("a", "c", "r", "x"), "main/c/3", (), ("b",)),
        (code("a", "b"), "main/a/1", ("c",), ("r", "x")),
        (code("a", "b"), "red/r/2", ("r", "c"), ("x",)),
        (code("a", "c", "r", "x"), "red/c/2", ("b",), ()),
        (code("a", "b", "r", "x"), "main/c/3/skip", (), ("c",)),
        (code("a", "b", "r", "x"), "main/c/3/compose", ("c",), ()),
        (code("a", "new", "c", "r", "x", new="b"), "main/a/1", (), ()),
        (code("a", "b", "c", "r", "x"), "undo/main/a/1", (), ()),
        (code("b", "c", "r", "x"), "undo/main/a/1", ("a",), ()),
        (code("a", "b"), "undo/2", (), ()),
    ],
)
def test_steps_that_a_release_does_not_know_are_named(
    known: OperationSpec, cursor: str, missing: tuple[str, ...], jumps: tuple[str, ...]
) -> None:
    undoing = cursor.startswith("undo")
    assert ahead(known, OLD, cursor) == Ahead(missing, jumps, changed=True, undoing=undoing)
    assert ahead(known, OLD, cursor).breaks is bool(missing)


def test_the_same_plan_is_not_changed_and_an_unknown_operation_has_no_steps() -> None:
    made = declare("f", {"main": [named("a")], "red": branch(named("b"), then="a")}, {})
    assert ahead(made, made.plan, "main/a/1") == Ahead((), (), changed=False)
    assert ahead(None, made.plan, "main/a/1") == Ahead(("a",), ("b",), changed=True)
    with pytest.raises(BadArguments):
        ahead(made, made.plan, "compose")


def test_a_plan_that_goes_round_has_an_end_to_be_looked_at() -> None:
    plan = Plan({"main": ("a", "b")}, {"main": "main/a"})
    assert ahead(code("a"), plan, "main/b/2") == Ahead(("b",), (), changed=True)


# ── globals as a whole ───────────────────────────────────────────────────────────────────────────


def test_a_whole_document_is_told_as_changes() -> None:
    assert as_changes('{"a":[1],"b":"x"}') == (Change("a", "[1]", ("a:",)), Change("b", '"x"', ('b="x"',)))
    assert as_changes("{}") == ()


def test_edits_are_checked_as_the_whole_that_they_make() -> None:
    globals = Globals("f")
    assert globals.edits('{"a":1}', {"b": [2]}, 100) == (Change("b", "[2]", ("b:",)),)
    with pytest.raises(BadArguments, match="the limit is 20"):
        globals.edits('{"a":1}', {"b": "x" * 20}, 20)
    with pytest.raises(BadArguments, match="there is no global 'z'; there are a"):
        globals.without('{"a":1}', ["z"])


def test_a_step_is_a_place() -> None:
    (run,) = step_runs("{}", [line(1, "red/a/5/compose")], [])
    assert (run.place, run.branch) == (Place("red", "a", 5, composing=True), "red")
