"""Undoing that is asked for while an operation is at its last step: that has its end, and is undone with the rest."""

from __future__ import annotations

from typing import Any

import pytest

from piecework import Piecework, State, Step, step
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
