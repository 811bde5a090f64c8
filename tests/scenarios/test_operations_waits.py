"""What a step waits for before the next one begins, and what becomes of the payload: whatever the next one is."""

from __future__ import annotations

from typing import Any

import pytest

from piecework import Piecework, State, Step, step, wait_for
from piecework.testing.drain import drain


def go(step: Step[Any]) -> None:
    step.wait_for("go", into="n")


@pytest.mark.parametrize("joined", [True, False])
def test_a_wait_in_front_of_pieces_gives_them_its_payload_and_keeps_it(app: Piecework, joined: bool) -> None:
    @app.task
    def square(n: int) -> int:
        return n * n

    def spread(step: Step[Any]) -> Any:
        yield square.piece(step["n"])

    def join(pieces: Any, step: Step[Any]) -> int:
        return step["n"] + sum(pieces.results())

    made = step(spread, compose=join) if joined else spread
    op = app.operation("spreading", main=[go, made]).later()
    op.signal("go", 3)
    drain(app)
    assert (op.state, op.error) == (State.COMPLETED, None)
    assert op.globals == ({"n": 3, "spread": 12} if joined else {"n": 3})
    assert list(op.runs())[-1].globals == op.globals


def test_a_wait_in_front_of_a_split_gives_it_its_payload_and_keeps_it(app: Piecework) -> None:
    @app.task
    def square(n: int) -> int:
        return n * n

    @app.split
    def squares(n: int) -> Any:
        yield square.piece(n)

    @squares.compose
    def total(pieces: Any, n: int) -> int:
        return n + sum(pieces.results())

    op = app.operation("spreading", main=[go, squares]).later()
    drain(app)
    op.signal("go", 3)
    drain(app)
    assert (op.state, op.globals) == (State.COMPLETED, {"n": 3, "squares": 12})


def test_what_came_is_not_to_be_changed_while_pieces_are_yielded(app: Piecework) -> None:
    def spread(step: Step[Any]) -> Any:
        step["n"].append(2)
        yield from ()

    op = app.operation("spreading", main=[go, step(spread, attempts=1)]).later()
    op.signal("go", [1])
    drain(app)
    assert op.error is not None
    assert "changed globals in place" in op.error.message


def test_a_wait_right_behind_one_for_the_same_signal_waits_for_a_signal_of_its_own(app: Piecework) -> None:
    """An approval by two."""

    def first(step: Step[Any]) -> None:
        step.wait_for("approval", into="one")

    op = app.operation("approving", main=[first, wait_for("approval", into="two")]).later()
    op.signal("approval", "ann")
    drain(app)
    assert (op.state, op.waits_for, op.globals) == (State.WAITING, "approval", {"one": "ann"})
    op.signal("approval", "bob")
    drain(app)
    assert (op.state, op.globals) == (State.COMPLETED, {"one": "ann", "two": "bob"})


def test_a_wait_behind_which_no_step_comes_fails_the_step_at_once(app: Piecework) -> None:
    """Not silently completed without what was waited for; and not tried again, for it would be said again."""

    def charge(step: Step[Any]) -> None:
        step.wait_for("go")

    op = app.operation("vain", main=[charge]).later()
    drain(app)
    assert (op.state, [run.outcome for run in op.runs()]) == (State.FAILED, ["failed"])
    assert op.error is not None
    assert "wait_for('go') in the last step: no step comes behind it" in op.error.message


def test_what_came_with_signals_is_within_the_bound_of_the_globals(app: Piecework) -> None:
    """A payload is bounded by itself; many of them, each under another name, are not by that."""
    ran: list[str] = []

    def last(step: Step[Any]) -> None:
        ran.append(step.name)

    def ask(step: Step[Any]) -> None:
        step.wait_for("go", into="two")

    half = "x" * (app.settings.max_payload * 6 // 10)
    as_steps = app.operation("f", main=[wait_for("go", into="one"), wait_for("go", into="two", name="again")]).later()
    in_steps = app.operation("g", main=[wait_for("go", into="one"), ask, last]).later()
    for op in (as_steps, in_steps):
        assert op.signal("go", half) is op.signal("go", half) is True
    drain(app)
    for op, at in ((as_steps, "again"), (in_steps, "last")):
        assert (op.status, list(op.globals), ran) == (f"failed at main/{at}", ["one"], [])
        assert op.error is not None
        assert (op.error.type, "what came with the signal 'go'" in op.error.message) == (
            "piecework.errors.TooLarge",
            True,
        )
        op.unset("one")
        op.retry()
    drain(app)
    assert [(op.status, list(op.globals)) for op in (as_steps, in_steps)] == [("completed", ["two"])] * 2


def test_a_last_step_may_wait_before_it_jumps_and_sleeps_in_vain(app: Piecework) -> None:
    def again(step: Step[Any]) -> None:
        step["n"] = step.get("n", 0) + 1
        if step["n"] == 1:
            step.wait_for("go")
            step.jump_to(again)
        else:
            step.sleep(3600)

    op = app.operation("again", main=[again]).later()
    drain(app)
    assert op.waits_for == "go"
    op.signal("go", "yes")
    drain(app)
    assert (op.state, op.globals) == (State.COMPLETED, {"n": 2, "go": "yes"})


async def test_any_name_is_that_of_a_global(app: Piecework) -> None:
    plain = app.operation("plain", main=[step(lambda step: None, name="nothing")])
    names = {"self": 1, "args": 2, "function": 3, "state": 4, "globals": 5, "more": 6}
    ops = [plain.later(**names), await plain.alater(**names)]
    assert [op.globals for op in ops] == [names, names]
    assert plain(**names) == names
    assert plain.where(**names).count() == 2
    assert plain.piece(**names).args == ops[0].record().args
    ops[0].set(self=2)
    assert ops[0].globals["self"] == 2
