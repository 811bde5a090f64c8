"""A declared state: every field is stored, resets too, and what does not fit it fails the step that brought it."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from piecework import Piecework, State, Step, step, wait_for
from piecework.errors import BadArguments, NotSerializable
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it, and after


class Sparse(msgspec.Struct, omit_defaults=True):
    n: int = 0
    names: list[str] = []
    note: str | None = None


class Vague(msgspec.Struct):
    n: int = 0
    note: str | msgspec.UnsetType = msgspec.UNSET


@dataclasses.dataclass
class Bill:
    total: int = 0
    lines: list[int] = dataclasses.field(default_factory=list)


def leave_beside(step: Step[Any]) -> None:
    step["beside"] = [0]


def fill(step: Step[Sparse]) -> None:
    step.state.n, step.state.note = 5, "x"
    step.state.names.append("ann")


def test_what_is_set_back_to_its_default_is_stored(app: Piecework) -> None:
    def reset(step: Step[Sparse]) -> None:
        step.state.n, step.state.note = 0, None
        step.state.names.clear()

    spare = app.operation("sparing", main=[fill, reset], state=Sparse)
    op = spare.later()
    assert spare.where(n=0).count() == 1
    drain(app)
    assert op.result(timeout=0) == spare() == Sparse()
    assert op.globals == {"n": 0, "names": [], "note": None}
    assert (spare.where(n=0).count(), spare.where(n=5).count()) == (1, 0)


def test_a_field_that_is_unset_is_taken_away(app: Piecework) -> None:
    def say(step: Step[Vague]) -> None:
        step.state.note = "x"

    def unset(step: Step[Vague]) -> None:
        step.state.note = msgspec.UNSET

    vague = app.operation("vague", main=[say, unset], state=Vague)
    op = vague.later()
    drain(app)
    assert op.globals == {"n": 0}
    assert vague() == op.result(timeout=0) == Vague()


def test_a_global_that_does_not_fit_the_state_fails_its_step(app: Piecework) -> None:
    def wrong(step: Step[Bill]) -> None:
        step["total"] = "text"

    bill = app.operation("billing", main=[step(wrong, attempts=1)], state=Bill)
    op = bill.later()
    drain(app)
    assert (op.state, op.globals["total"]) == (State.FAILED, 0)
    assert op.error is not None
    assert "the globals do not fit the state Bill: Expected `int`, got `str` - at `$.total`" in op.error.message
    with pytest.raises(BadArguments, match="do not fit the state Bill"):
        bill()


@pytest.mark.parametrize("own", [True, False])
def test_a_payload_that_does_not_fit_the_state_fails_the_step_that_waited_before_it_runs(
    app: Piecework, own: bool
) -> None:
    ran = []

    def ask(step: Step[Bill]) -> None:
        step.wait_for("sum", into="total")

    def note(step: Step[Bill]) -> None:
        ran.append(step.name)

    waits: list[Any] = [wait_for("sum", into="total"), note] if own else [ask, note]
    op = app.operation("billing", main=waits, state=Bill).later()
    op.signal("sum", "much")
    drain(app)
    assert (op.state, ran) == (State.FAILED, [])
    assert op.error is not None
    assert "what came with the signal 'sum' cannot be the global 'total'" in op.error.message
    if own:
        op.skip()
        drain(app)
        assert (op.state, ran) == (State.COMPLETED, ["note"])


def test_by_hand_only_fields_and_what_steps_have_set_are_set(app: Piecework) -> None:
    def note(step: Step[Bill]) -> None:
        step["noted"] = True
        step.sleep(60)

    op = app.operation("billing", main=[note, step(note, name="again")], state=Bill).later()
    with pytest.raises(BadArguments, match="its state Bill has no field 'typo'; it has lines, total"):
        op.set(typo=3)
    drain(app)
    op.set(noted=False, total=4)
    assert op.globals == {"total": 4, "lines": [], "noted": False}


@dataclasses.dataclass
class Loose:
    share: float | None = None
    pair: tuple[int, int] | None = None
    anything: Any = None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("share", float("nan")),
        ("anything", {"deep": [float("inf")]}),
        ("anything", {1: "a key that is no text"}),
        ("anything", (1, 2)),
        ("beside", (1, 2)),
    ],
)
def test_what_would_be_read_back_as_something_else_is_not_set_by_hand(app: Piecework, name: str, value: Any) -> None:
    op = app.operation("loose", main=[leave_beside, wait_for("signal")], state=Loose).later()
    drain(app)
    with pytest.raises(NotSerializable, match=f"loose: {name}"):
        op.set({name: value})
    with pytest.raises(NotSerializable, match=f"loose: {name}"):
        op.fork({name: value}, after="leave_beside")
    assert (op.globals["share"], op.globals["beside"], op.amendments()) == (None, [0], [])
    op.set(share=0.5, pair=(1, 2), anything=[[1]], beside=[2])
    assert op.values == Loose(0.5, (1, 2), [[1]])


def test_nobody_is_found_by_what_is_no_number(app: Piecework) -> None:
    loose = app.operation("loose", main=[leave_beside], state=Loose)
    loose.later()
    with pytest.raises(NotSerializable, match="share is nan"):
        loose.where(share=float("nan"))
    assert loose.where(share=None).count() == 1


def test_a_field_that_a_step_sets_in_two_ways_fails_it_and_says_what_to_do(app: Piecework) -> None:
    def twice(step: Step[Bill]) -> None:
        step.state.total = 1
        step["total"] = 2

    op = app.operation("billing", main=[step(twice, attempts=1)], state=Bill).later()
    drain(app)
    assert (op.state, op.globals["total"]) == (State.FAILED, 0)
    assert op.error is not None
    assert "has set step.state.total and step['total'], to different values; set it in one" in op.error.message


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    total: int = 0


def test_a_name_that_no_operation_can_have_is_not_asked_for(app: Piecework) -> None:
    """Where steps may set others beside the state, it may be theirs."""
    strict, bill = (app.operation(f"of_{kind.__name__}", main=[fill], state=kind) for kind in (Strict, Bill))
    with pytest.raises(BadArguments, match="no field 'totl'; did you mean 'total'.*app.operations.where"):
        strict.where(totl=1)
    strict.later(total=1)
    assert (strict.where(total=1).count(), app.operations.where(totl=1).count(), bill.where(totl=1).count()) == (
        1,
        0,
        0,
    )
