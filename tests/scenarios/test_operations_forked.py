"""Forks behind a step that said more than its end: they wait, sleep and jump as the operation did."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from leaping import LeapingClock
from operation_steps import Steps, names

from piecework import Operation, Piecework, Step, step, wait_for
from piecework.errors import UsageError
from piecework.testing.drain import drain


def asks(step: Step[Any]) -> None:
    step.wait_for("approval", timeout=60, otherwise="red", into="by")


def test_a_fork_behind_a_step_that_said_wait_for_waits_as_well(
    app: Piecework, steps: Steps, leaping: LeapingClock
) -> None:
    steps.acts |= {"charge": asks, "set_up": lambda step: step.set("seen", step["by"])}
    op = app.operation("f", main=[steps.charge, steps.set_up], red=[steps.set_up_red]).later()
    drain(app)
    leaping.leap(40)
    approved, late = op.fork(after="charge"), op.fork(after=steps.charge)
    drain(app)
    assert approved.status == late.status == "waiting for approval"
    assert approved.waits_for == "approval"
    leaping.leap(40)  # the source's time is over, theirs is not
    drain(app)
    assert (op.status, late.status) == ("completed", "waiting for approval")
    approved.signal("approval", "ann")
    leaping.leap(30)
    drain(app)
    assert (approved.globals, names(approved)) == ({"by": "ann", "seen": "ann"}, ["set_up"])
    assert names(late) == ["set_up_red"]
    again = op.fork(after="charge")  # no signal came to it
    drain(app)
    assert again.status == "waiting for approval"


@pytest.mark.parametrize("passed", [False, True])
def test_where_the_signal_had_come_the_fork_has_its_payload(app: Piecework, steps: Steps, passed: bool) -> None:
    steps.acts |= {"charge": asks, "set_up": lambda step: step.set("seen", step["by"])}
    op = app.operation("f", main=[steps.charge, steps.set_up], red=[steps.set_up_red]).later()
    if passed:
        op.signal("approval", "ann")
        drain(app)
        op.signal("approval", "bob")
    else:
        drain(app)
        op.signal("approval", "ann")
    fork = op.fork(after="charge")
    assert "by" not in fork.globals  # as with the operation itself: it is a global of the next step
    drain(app)
    assert (fork.status, fork.globals) == ("completed", {"by": "ann", "seen": "ann"})


def test_of_several_signals_of_one_name_a_fork_has_that_which_came_to_its_own_wait(
    app: Piecework, steps: Steps
) -> None:
    steps.acts |= {"charge": asks, "set_up": asks, "email": lambda step: step.set("seen", step["by"])}
    op = app.operation("f", main=[steps.charge, steps.set_up, steps.email], red=[steps.set_up_red]).later()
    for who in ("ann", "bob"):
        op.signal("approval", who)
    drain(app)
    first, second = op.fork(after="charge"), op.fork(after="set_up")
    drain(app)
    assert (first.waits_for, first.globals["by"]) == ("approval", "ann")
    assert (second.status, second.globals["seen"]) == ("completed", "bob")


def test_a_wait_that_was_skipped_or_left_by_a_jump_is_waited_for_by_the_fork(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = lambda step: step.wait_for("approval")
    fulfil = app.operation("f", main=[steps.charge, steps.set_up, wait_for("approval", name="second")])
    skipped, jumped = fulfil.later(), fulfil.later()
    drain(app)
    skipped.skip()
    jumped.jump_to("second")
    drain(app)
    for op in (skipped, jumped):
        op.signal("approval", "for the second")
        drain(app)
        assert op.status == "completed"
        fork = op.fork(after="charge")
        drain(app)
        assert (fork.status, names(fork)) == ("waiting for approval", [])


def test_a_wait_step_that_a_step_waits_before_takes_a_signal_of_its_own_in_the_fork_too(
    app: Piecework, steps: Steps
) -> None:
    steps.acts["charge"] = lambda step: step.wait_for("approval")
    op = app.operation("f", main=[steps.charge, wait_for("approval"), steps.email]).later()
    op.signal("approval", "ann")
    drain(app)
    fork = op.fork(after="charge")
    drain(app)
    assert (op.status, fork.status, fork.globals) == ("waiting for approval",) * 2 + ({"approval": "ann"},)
    fork.signal("approval", "bob")
    drain(app)
    assert (op.status, fork.status, fork.globals) == ("waiting for approval", "completed", {"approval": "bob"})


def test_a_fork_behind_a_step_that_slept_is_due_after_the_same_time(
    app: Piecework, steps: Steps, leaping: LeapingClock
) -> None:
    steps.acts["charge"] = lambda step: step.sleep(3600)
    op = app.operation("f", main=[steps.charge, step(steps.email, delay=60)]).later()
    drain(app)
    leaping.leap(3000)
    fork = op.fork(after="charge")
    leaping.leap(700)
    drain(app)
    assert (op.status, fork.status) == ("completed", "scheduled: main/email")
    leaping.leap(3000)
    drain(app)
    assert fork.status == "completed"


def test_a_fork_follows_the_jump_that_was_made_whatever_became_of_the_operation(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = lambda step: step.jump_to("red")
    undone = step(steps.charge, undo=steps.b1)
    op = app.operation("f", main=[undone, steps.email], red=[wait_for("a"), steps.set_up_red]).later()
    drain(app)
    op.cancel(undo=True)
    drain(app)
    assert op.status == "cancelled"
    fork = op.fork(after="charge")
    assert fork.at is not None
    assert fork.at.name == "red/a"


@pytest.mark.parametrize("read", [1, 2])
def test_a_fork_does_not_ask_where_the_operation_is_by_now(
    app: Piecework, steps: Steps, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    """It moves on between two reads: the step behind which it is forked says where it went."""
    steps.acts["charge"] = lambda step: step.jump_to("red")
    op = app.operation("f", main=[steps.charge, steps.email], red=[wait_for("a"), steps.set_up_red]).later()
    drain(app)
    reads, n = Operation.runs, itertools.count(1)

    def runs(self: Operation[Any]) -> Any:
        found = list(reads(self))
        if self.id == op.id and next(n) == read:
            op.signal("a")
            drain(app)
        return iter(found)

    monkeypatch.setattr(Operation, "runs", runs)
    fork = op.fork(after="charge")
    assert fork.at is not None
    assert fork.at.name == "red/a"


def test_a_step_of_steps_can_be_forked_after(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge, steps.email]).later()
    drain(app)
    fork = op.fork(after=op.steps[0])
    assert fork.at is not None
    assert fork.at.name == "main/email"
    with pytest.raises(UsageError, match="there is nothing behind it"):
        op.fork(after=op.steps[1])


def test_a_step_that_was_not_come_to_is_none_to_fork_after(app: Piecework, steps: Steps) -> None:
    op = app.operation("f", main=[steps.charge, steps.email], red=[steps.charge, steps.email]).later()
    drain(app)
    (charged, _, red, _) = op.steps
    assert (charged.branch, red.branch, red.name, red.visit) == ("main", "red", "charge", None)
    with pytest.raises(UsageError, match="no completed step red/charge"):
        op.fork(after=red)
    with pytest.raises(UsageError, match="no completed visit 3"):
        op.fork(after=3)
    with pytest.raises(UsageError, match="True is no step"):
        op.fork(after=True)
    assert op.amendments() == []


def test_a_jump_by_hand_and_a_skip_wait_for_the_time_of_the_step_they_lead_to(
    app: Piecework, steps: Steps, leaping: LeapingClock
) -> None:
    at = datetime.now(UTC) + timedelta(days=30)
    main = [wait_for("go"), step(steps.charge, delay=60), step(steps.email, at=at)]
    fulfil = app.operation("f", main=main)
    first, second, third = (fulfil.later() for _ in range(3))
    drain(app)
    first.jump_to("charge")
    second.jump_to("email")
    third.skip()
    drain(app)
    assert [op.status for op in (first, second, third)] == [
        "scheduled: main/charge",
        "scheduled: main/email",
        "scheduled: main/charge",
    ]
    leaping.leap(61)
    drain(app)
    assert steps.ran == ["charge", "charge"]
    leaping.leap(31 * 86400)
    drain(app)
    assert [op.status for op in (first, second, third)] == ["completed"] * 3


def test_a_piece_that_was_undone_keeps_its_error_when_its_parent_is_retried_and_can_begin_anew(
    app: Piecework, steps: Steps
) -> None:
    bad = [True]

    def maybe(step: Step[Any]) -> None:
        if bad[0]:
            raise ValueError("the provider")

    inner = app.operation("inner", main=[step(steps.charge, undo=steps.b1), step(maybe, attempts=1)])

    def outer(step: Step[Any]) -> Any:
        yield inner.piece(n=1)

    op = app.operation("outer", main=[step(outer, attempts=1)]).later()
    drain(app)
    piece = inner.where().first()
    assert piece is not None
    assert (op.status, steps.ran) == ("failed at main/outer", ["charge", "b1"])
    for _ in range(2):
        op.retry()
        drain(app)
        assert op.status == "failed at main/outer"
        for error in (op.error, piece.error):
            assert error is not None
            assert "the provider" in error.message
            assert error.message.count("let it jump_to a step") == 1
    bad[0] = False
    piece.jump_to("main")
    drain(app)
    assert (op.status, piece.status, steps.ran) == ("completed", "completed", ["charge", "b1", "charge"])
