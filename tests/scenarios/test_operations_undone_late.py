"""Undoing that is asked for while an operation is at its last step: that has its end, and is undone with the rest."""

from __future__ import annotations

from typing import Any

import pytest

from piecework import Piecework, State, Step, step, wait_for
from piecework.testing.drain import drain


def paying(app: Piecework, *, end: str = "ends") -> Any:
    def take_back(step: Step[Any]) -> None:
        step["back"] = [*step.get("back", []), step.visit]

    def charge(step: Step[Any]) -> None:
        step["charged"] = True

    def email(step: Step[Any]) -> None:
        app.operations.get(step.operation_id).cancel("the wrong customer", undo=True)
        step["sent"] = True
        if end == "pauses":
            app.store.pause("default", True)
        if end == "raises":
            raise ValueError("boom")

    steps = [step(charge, undo=take_back), step(email, undo=take_back, attempts=1)]
    return app.operation("paying", main=steps)


def test_the_last_step_is_recorded_and_undone_first(app: Piecework) -> None:
    op = paying(app).later()
    drain(app)
    assert (op.state, op.record().reason) == (State.CANCELLED, "the wrong customer")
    assert op.globals == {"charged": True, "sent": True, "back": [2, 1]}
    told = [(run.name, run.outcome) for run in op.runs()]
    assert told[:4] == [("charge", "completed"), ("email", "completed"), ("email", "undone"), ("charge", "undone")]


def test_a_last_step_that_raises_is_not_undone_and_the_rest_is(app: Piecework) -> None:
    op = paying(app, end="raises").later()
    drain(app)
    assert (op.state, op.globals) == (State.CANCELLED, {"charged": True, "back": [1]})


@pytest.mark.parametrize("again", ["resume", "retry"])
def test_one_that_was_cancelled_before_its_undoing_goes_on_with_that(app: Piecework, again: str) -> None:
    op = paying(app, end="pauses").later()
    drain(app)
    assert (op.state, op.globals) == (State.AVAILABLE, {"charged": True, "sent": True})
    assert op.cancel("stop") is True
    assert op.state is State.CANCELLED
    assert getattr(op, again)() is True
    app.store.pause("default", False)
    drain(app)
    assert (op.state, op.globals["back"]) == (State.CANCELLED, [2, 1])


def test_one_that_was_undone_while_it_waited_for_pieces_jumps_to_visits_that_nobody_had(app: Piecework) -> None:
    """A step that was split has left no line by then; its number is that of its pieces, which would be found again."""

    @app.task(queue="slow")
    def square(n: int) -> int:
        return n * n

    def spread(step: Step[Any]) -> Any:
        yield from (square.piece(n) for n in (1, 2))

    def join(pieces: Any, step: Step[Any]) -> int:
        return sum(pieces.results())

    op = app.operation("spreading", main=[step(spread, compose=join, into="sum")]).later()
    app.store.pause("slow", True)
    drain(app)
    assert op.status == "waiting for the pieces of main/spread"
    op.cancel(undo=True)
    drain(app)
    app.store.pause("slow", False)
    assert (op.status, op.jump_to("spread").visit) == ("cancelled", 2)
    drain(app)
    assert (op.status, op.globals) == ("completed", {"sum": 5})


def test_so_does_one_that_was_undone_where_it_had_jumped_by_hand(app: Piecework) -> None:
    def leave(step: Step[Any]) -> None:
        pass

    op = app.operation("leaving", main=[wait_for("go"), leave]).later()
    drain(app)
    assert op.jump_to("leave").visit == 2
    op.cancel(undo=True)
    drain(app)
    assert (op.status, op.jump_to("go").visit) == ("cancelled", 3)
