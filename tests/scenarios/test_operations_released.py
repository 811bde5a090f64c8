"""New code meets operations that are under way: nothing fails, and nothing is left undone, for want of what was renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from operation_steps import Steps, names

from piecework import Piecework, Step, step, wait_for
from piecework.ahead import ahead
from piecework.engine.reviver import REVIVE_SECONDS
from piecework.testing.drain import drain

Release = Callable[..., Any]


def boom(step: Step[Any]) -> None:
    raise ValueError("boom")


@pytest.fixture
def release(tmp_path: Path, leaping: LeapingClock) -> Iterator[Release]:
    """Declares the operation as some release of the code does; answers the app and the operation."""
    apps: list[Piecework] = []

    def declared(**said: Any) -> tuple[Piecework, Any]:
        apps.append(Piecework(f"sqlite:///{tmp_path}/jobs.db?synchronous=normal", clock=leaping))
        return apps[-1], apps[-1].operation("f", attempts=1, **said)

    yield declared
    for app in apps:
        app.close()


def at_work(app: Piecework, leaping: LeapingClock, until: Callable[[Callable[[], object]], None], done: Any) -> None:
    """A worker at work until something has come true, and for as long as it needs to look at what is parked."""
    with app.worker():
        leaping.leap(REVIVE_SECONDS + 1)
        until(done)


def test_a_jump_to_what_only_the_new_plan_has_parks_until_code_of_its_own_plan_is_back(
    release: Release, steps: Steps, leaping: LeapingClock, until: Any
) -> None:
    steps.acts["set_up"] = lambda step: step.jump_to("crimson")
    old = {"main": [step(steps.charge, undo=steps.b1), steps.set_up], "red": [steps.set_up_red]}
    _, was = release(**old)
    op, other = was.later(), was.later()
    app, now = release(main=old["main"], crimson=[steps.set_up_red])
    drain(app)
    op, other = now.get(op.id), now.get(other.id)
    assert (op.status, names(op)) == ("parked at main/set_up", ["charge"])
    assert "which has no 'crimson', and the code jumps there" in op.record().reason
    assert sorted(steps.ran) == ["charge"] * 2 + ["set_up"] * 2
    new = now.later()
    at_work(app, leaping, until, lambda: new.status == "completed")
    drain(app)
    assert steps.ran.count("set_up") == 3  # those that are parked are not tried again and again by this code
    other.jump_to("red")
    drain(app)
    assert other.status == "completed"
    steps.acts["set_up"] = lambda step: step.jump_to("red")
    app, now = release(**old)
    at_work(app, leaping, until, lambda: op.status == "completed")
    assert "b1" not in steps.ran


def test_a_wait_for_an_operation_of_before_that_leads_to_a_new_branch_parks_it(
    release: Release, steps: Steps, leaping: LeapingClock
) -> None:
    def main(otherwise: str) -> list[Any]:
        return [step(steps.charge, undo=steps.b1), wait_for("a", timeout=60, otherwise=otherwise)]

    _, was = release(main=main("late"), late=[steps.email])
    op = was.later()
    app, now = release(main=main("tardy"), tardy=[steps.email])
    drain(app)
    leaping.leap(61)
    drain(app)
    op = now.get(op.id)
    assert (op.status, steps.ran) == ("parked at main/a", ["charge"])
    op.jump_to("late")
    drain(app)
    assert (op.status, steps.ran) == ("completed", ["charge", "email"])


def test_code_that_was_taken_back_knows_where_a_wait_leads_that_began_under_the_newer(
    release: Release, steps: Steps, leaping: LeapingClock
) -> None:
    """In words of the newer code, a renamed step or a branch of its own, the wait would lead nowhere: it would fail."""

    def main(otherwise: str) -> list[Any]:
        return [step(steps.charge, undo=steps.b1), wait_for("a", timeout=60, otherwise=otherwise)]

    old, was = release(main=main("late"), late=[steps.email])
    alike, other = was.later(), was.later()
    drain(release(main=main("late"), late=[step(steps.set_up, name="mail", aliases=["email"])])[0])
    third = was.later()
    drain(release(main=main("tardy"), tardy=[steps.email])[0])
    assert [op.status for op in (alike, other, third)] == ["waiting for a"] * 3
    leaping.leap(61)
    drain(old)
    assert [(op.status, names(op)) for op in (alike, other, third)] == [("completed", ["charge", "email"])] * 3
    assert "b1" not in steps.ran


@pytest.mark.parametrize("otherwise", ["mail", "late/mail"])
def test_a_step_waits_with_the_name_that_another_has_by_now(
    release: Release, steps: Steps, leaping: LeapingClock, otherwise: str
) -> None:
    steps.acts["charge"] = lambda step: step.wait_for("a", timeout=60, otherwise=otherwise)
    op = release(main=[steps.charge, steps.set_up], late=[steps.email])[1].later()
    renamed = step(steps.email, name="mail", aliases=["email"])
    app, now = release(main=[steps.charge, steps.set_up], late=[renamed])
    drain(app)
    leaping.leap(61)
    drain(app)
    assert (now.get(op.id).status, steps.ran) == ("completed", ["charge", "email"])


def test_a_wait_that_is_retired_leads_to_what_was_retired_with_it(
    release: Release, steps: Steps, leaping: LeapingClock
) -> None:
    approval = wait_for("approval", timeout=60, otherwise="expired")
    old, was = release(main=[steps.charge, approval], expired=[steps.email])
    waits = was.later()
    drain(old)
    due = was.later()
    app, now = release(main=[steps.charge], retired=[approval, steps.email])
    for op in (waits, due):
        record, kept = op.record(), op.kept()
        assert not ahead(now._operation, op.plan, record.cursor or "", wait=kept.wait).breaks
    drain(app)
    assert [op.status for op in (waits, due)] == ["waiting for approval"] * 2
    leaping.leap(61)
    drain(app)
    assert [(now.get(op.id).status, names(op)) for op in (waits, due)] == [("completed", ["charge", "email"])] * 2


@dataclass
class Bill:
    total: int = 0


@dataclass
class Later:
    total: int
    currency: str


def test_globals_of_an_older_state_park_the_operation_which_is_not_failed_and_undone(
    release: Release, steps: Steps, leaping: LeapingClock, until: Any
) -> None:
    steps.acts["set_up"] = lambda step: step.set("total", step.state.total + 1)
    main = [step(steps.charge, undo=steps.b1), steps.set_up]
    _, was = release(main=main, state=Bill)
    op, other = was.later(), was.later()
    app, now = release(main=main, state=Later)
    drain(app)
    op, other = now.get(op.id), now.get(other.id)
    assert (op.status, steps.ran.count("set_up")) == ("parked at main/set_up", 2)
    assert "the globals do not fit the state Later: Object missing required field `currency`" in op.record().reason
    op.set(currency="eur")
    at_work(app, leaping, until, lambda: op.status == "completed")
    assert (other.status, steps.ran.count("set_up")) == ("parked at main/set_up", 3)  # not tried again and again
    app, now = release(main=main, state=Bill)
    at_work(app, leaping, until, lambda: other.status == "completed")
    assert other.globals == {"total": 1}
    assert "b1" not in steps.ran


def test_a_step_that_is_no_split_any_more_is_run_as_the_code_says(release: Release, steps: Steps) -> None:
    leaves: list[Any] = []

    def split_up(step: Step[Any]) -> Iterator[Any]:
        yield leaves[-1].piece(7)

    app, was = release(main=[step(split_up, name="charge"), steps.email])
    leaves.append(app.task(name="leaf", queue="leaves")(oct))
    op = was.using(queue="splits").later()
    app.worker(queues=["splits"], burst=True).run()
    assert op.status == "waiting for the pieces of main/charge"
    app, now = release(main=[steps.charge, steps.email])
    leaves.append(app.task(name="leaf", queue="leaves")(oct))
    drain(app)
    assert (now.get(op.id).status, steps.ran) == ("completed", ["charge", "email"])


def test_an_operation_that_is_parked_at_an_unknown_step_is_undone_if_that_is_asked_for(
    release: Release, steps: Steps
) -> None:
    """Of the code only the undo is needed, and not the step that is not run any more."""
    main = [step(steps.charge, undo=steps.b1), wait_for("go")]
    old, was = release(main=[*main, step(steps.email, pool="process")])
    op, other = was.later(), was.later()
    drain(old)
    for one in (op, other):
        one.signal("go")
    app, now = release(main=main)
    op, other = now.get(op.id), now.get(other.id)
    other.cancel("the wrong customer", undo=True)
    drain(app)
    assert (op.status, other.status) == ("parked at main/email", "cancelled")
    assert op.cancel("the wrong customer", undo=True) is True
    drain(app)
    assert (op.status, op.record().reason) == ("cancelled", "the wrong customer")
    assert steps.ran == ["charge", "charge", "b1", "b1"]


def test_a_jump_to_nowhere_fails_as_ever(release: Release, steps: Steps) -> None:
    steps.acts["set_up"] = lambda step: step.jump_to("crimsn")
    _, was = release(main=[steps.charge, steps.set_up])
    op = was.later()
    app, now = release(main=[steps.charge, steps.set_up], crimson=[steps.email])
    drain(app)
    assert now.get(op.id).status == "failed at main/set_up"


@pytest.mark.parametrize("taken", ["the undo", "the step"])
@pytest.mark.parametrize("others", [False, True], ids=["no other undo", "another undo"])
def test_an_undo_that_the_code_has_no_more_is_not_left_out_in_silence(
    release: Release, steps: Steps, leaping: LeapingClock, until: Any, taken: str, others: bool
) -> None:
    rest = [wait_for("go"), step(steps.set_up, undo=steps.b2) if others else steps.set_up, step(boom)]
    old, was = release(main=[step(steps.charge, undo=steps.b1), *rest])
    op = was.later()
    drain(old)
    app, now = release(main=[steps.charge, *rest] if taken == "the undo" else rest)
    op = now.get(op.id)
    assert op.status == "waiting for go"
    op.signal("go")
    drain(app)
    assert op.record().state == "parked"
    assert "main/charge (visit 1) had an undo when the operation began" in op.record().reason
    assert ("b2" in steps.ran) is others  # what is newer was undone
    lines = len(app.store.attempts(op.id))
    new = now.later()
    at_work(app, leaping, until, lambda: new.status == "waiting for go")
    assert len(app.store.attempts(op.id)) == lines  # the same code knows it no better
    app, now = release(main=rest, retired=[step(steps.charge, undo=steps.b1)])
    at_work(app, leaping, until, lambda: op.status == "failed")
    assert steps.ran.count("b1") == 1


def test_a_step_without_an_undo_may_be_removed_while_another_has_one(release: Release, steps: Steps) -> None:
    rest = [step(steps.set_up, undo=steps.b2), wait_for("go"), step(boom)]
    old, was = release(main=[steps.charge, *rest])
    op = was.later()
    drain(old)
    app, now = release(main=rest)
    op = now.get(op.id)
    op.signal("go")
    drain(app)
    assert (op.status, steps.ran) == ("failed", ["charge", "set_up", "b2"])


def test_an_undo_that_is_new_is_run_for_those_of_before(release: Release, steps: Steps) -> None:
    old, was = release(main=[steps.charge, wait_for("go"), step(boom)])
    op = was.later()
    drain(old)
    app, now = release(main=[step(steps.charge, undo=steps.b1), wait_for("go"), step(boom)])
    op = now.get(op.id)
    op.signal("go")
    drain(app)
    assert (op.status, steps.ran) == ("failed", ["charge", "b1"])


def test_a_jump_of_many_passes_over_those_whose_plan_does_not_have_it(release: Release, steps: Steps) -> None:
    _, was = release(main=[steps.charge])
    first = was.later()
    _, now = release(main=[steps.charge, steps.set_up])
    second, third = now.later(), was.later()
    changed = now.where().jump_to("set_up")
    assert (changed, [id for id, _ in changed.refused]) == (1, [first.id, third.id])
    assert "no branch or step 'set_up'" in changed.refused[0][1]
    assert (second.status, third.status) == ("due: main/set_up", "due: main/charge")


def test_a_plain_cancel_amid_undoing_says_that_it_is_left_unfinished(release: Release, steps: Steps) -> None:
    app, fulfil = release(main=[step(steps.charge, undo=steps.b1), wait_for("go")])
    op = fulfil.later()
    drain(app)
    op.cancel(undo=True)
    op.cancel("enough")
    assert op.status == "cancelled, undoing left unfinished at main/go"
    assert steps.ran == ["charge"]
    op.resume()
    drain(app)
    assert (op.status, steps.ran) == ("cancelled", ["charge", "b1"])
