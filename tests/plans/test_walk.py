"""What follows from a run of an operation: every outcome, at every kind of place, as a table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from piecework import outcome as outcomes
from piecework.job import Change, Ending, ErrorInfo, Fetched, OperationRun, Route, State, Wait
from piecework.operation import OperationSpec, StepSpec
from piecework.options import TaskOptions
from piecework.outcome import (
    Advance,
    Again,
    Await,
    Cancelled,
    Complete,
    Errored,
    Failed,
    Outcome,
    Park,
    Release,
    Seal,
    Settlement,
    Stepped,
    Undone,
    UndoNext,
)
from piecework.plan import Place, Plan, Undoing, read_cursor
from piecework.retry import fixed
from piecework.walk import Walk, settle_operation

ERROR = ErrorInfo("ValueError", "boom")
NOW = 1000.0
PLAN = Plan({"main": ("charge", "set_up", "email"), "red": ("set_up_red",)}, {"red": "main/email"})
UNDO = StepSpec("refund", "plain")
STEPS = {
    "charge": StepSpec("charge", "plain", undo=UNDO),
    "set_up": StepSpec("set_up", "plain", options={"queue": "slow", "priority": 9}, delay=60.0, undo=UNDO),
    "email": StepSpec("email", "plain"),
    "set_up_red": StepSpec("set_up_red", "plain", at=NOW + 30),
}
TWICE = TaskOptions(attempts=2, retry=fixed(7))
CHANGES = (Change("a", "1", ("a=1",)),)
ENDING = Ending(State.FAILED, ERROR)


def spec(*, undoes: bool = True) -> OperationSpec:
    steps = STEPS if undoes else {name: msgspec.structs.replace(step, undo=None) for name, step in STEPS.items()}
    return OperationSpec("f", PLAN, steps, TWICE)


def settled(
    cursor: str,
    outcome: Outcome,
    *,
    attempt: int = 0,
    keep: bool = False,
    undoes: bool = True,
    queue: str = "orders",
    ending: Ending | None = None,
    batch: str | None = None,
) -> Settlement:
    run = OperationRun(PLAN.digest, '{"b":2}', ending=ending)
    job = Fetched("j", 7, "f", queue, 3, attempt, 1, batch, None, cursor, None, 1.0, "{}", run)
    walk = Walk(spec(undoes=undoes), PLAN, read_cursor(cursor), "orders", 3)
    return settle_operation(job, outcome, walk, TWICE, 0.0, NOW, keep=keep)


def without_route(made: Settlement) -> Settlement:
    assert made.advance is not None
    return msgspec.structs.replace(made, advance=msgspec.structs.replace(made.advance, route=None))


def moved(at: str, state: State, cursor: str, **fields: Any) -> Settlement:
    """An advance from a place to a cursor; `queue` and `priority` are where it goes on, if elsewhere."""
    kept = {name: fields.pop(name) for name in ("changes", "wait", "ending", "queue", "priority") if name in fields}
    return Settlement(
        "j", 7, state, fields.pop("attempt", 1), "orders", cursor=cursor, advance=Advance(at, **kept), **fields
    )


# ── a step that ended well ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "route"),
    [
        (Stepped(), None),
        (Stepped(CHANGES), None),
        (Stepped(delay=9.0), Route(pause=9.0)),
        (Stepped(jump="main/email", wait=Wait("ok")), Route("main/email", None, Wait("ok"))),
    ],
)
def test_what_a_step_said_of_the_way_on_is_kept_with_its_line(said: Stepped, route: Route | None) -> None:
    advance = settled("main/charge/1", said).advance
    assert advance is not None
    assert advance.route == route


WELL: dict[str, tuple[str, Outcome, Settlement]] = {
    "to the next step, where and when that says": (
        "main/charge/1",
        Stepped(CHANGES),
        moved("main/charge/1", State.AVAILABLE, "main/set_up/2", changes=CHANGES, history="completed", delay=60.0,
              queue="slow", priority=9),
    ),
    "to the next step, later than that says": (
        "main/charge/1",
        Stepped(delay=90.0),
        moved("main/charge/1", State.AVAILABLE, "main/set_up/2", history="completed", delay=90.0, queue="slow", priority=9),
    ),
    "a jump": (
        "main/charge/1",
        Stepped(jump="main/email"),
        moved("main/charge/1", State.AVAILABLE, "main/email/2", history="completed"),
    ),
    "a jump back": (
        "main/email/3",
        Stepped(jump="main/charge"),
        moved("main/email/3", State.AVAILABLE, "main/charge/4", history="completed"),
    ),
    "a step that begins at a moment": (
        "main/charge/1",
        Stepped(jump="red/set_up_red"),
        moved("main/charge/1", State.AVAILABLE, "red/set_up_red/2", history="completed", delay=30.0),
    ),
    "the end of a branch that goes on": (
        "red/set_up_red/5",
        Stepped(),
        moved("red/set_up_red/5", State.AVAILABLE, "main/email/6", history="completed"),
    ),
    "the end": ("main/email/3", Stepped(), moved("main/email/3", State.COMPLETED, "main/email/3", history="completed")),
    "pieces that were joined": (
        "main/email/3/compose",
        Stepped(CHANGES, jump="main/charge"),
        moved("main/email/3/compose", State.AVAILABLE, "main/charge/4", changes=CHANGES, history="completed"),
    ),
    "a wait before the next step": (
        "main/charge/1",
        Stepped(jump="main/email", wait=Wait("ok", 5.0)),
        moved("main/charge/1", State.WAITING, "main/email/2", history="completed", wait=Wait("ok", 5.0)),
    ),
    "a wait before a step with a delay, which counts from the signal": (
        "main/charge/1",
        Stepped(wait=Wait("ok", 5.0)),
        moved("main/charge/1", State.WAITING, "main/set_up/2", history="completed", wait=Wait("ok", 5.0, delay=60.0),
              queue="slow", priority=9),
    ),
    "a wait and a pause, which counts from the step's end": (
        "main/charge/1",
        Stepped(jump="main/email", delay=90.0, wait=Wait("ok")),
        moved("main/charge/1", State.WAITING, "main/email/2", history="completed", wait=Wait("ok", run_at=NOW + 90.0)),
    ),
    "a wait before a step that begins at a moment": (
        "main/charge/1",
        Stepped(jump="red/set_up_red", delay=10.0, wait=Wait("ok")),
        moved("main/charge/1", State.WAITING, "red/set_up_red/2", history="completed", wait=Wait("ok", run_at=NOW + 30.0)),
    ),
    "a step that was skipped": (
        "main/email/3/skip",
        Stepped(said="skipped"),
        moved("main/email/3/skip", State.COMPLETED, "main/email/3/skip", history="skipped"),
    ),
    "a wait that is a step": (
        "main/email/3",
        Await(Wait("ok"), CHANGES),
        moved("main/email/3", State.WAITING, "main/email/3", wait=Wait("ok"), changes=CHANGES),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WELL)
def test_where_a_step_that_ended_well_leads(case: str) -> None:
    cursor, outcome, expected = WELL[case]
    assert without_route(settled(cursor, outcome)) == expected


@pytest.mark.parametrize("case", WELL)
def test_the_next_step_runs_on_in_the_same_worker_where_nothing_speaks_against_it(case: str) -> None:
    cursor, outcome, expected = WELL[case]
    there = without_route(settled(cursor, outcome, keep=True))
    free = expected.state is State.AVAILABLE and expected.delay is None
    assert there == (msgspec.structs.replace(expected, state=State.RUNNING) if free else expected)


def test_a_step_of_another_queue_is_left_to_the_workers_of_that() -> None:
    assert settled("main/set_up/2", Stepped(), queue="slow", keep=True).state is State.AVAILABLE


def test_a_step_that_needed_attempts_tells_how_many() -> None:
    assert settled("main/email/3", Stepped(), attempt=4).attempt == 5


def test_the_result_of_a_piece_is_left_to_the_store() -> None:
    """It alone knows the globals as they are when that is recorded."""
    assert settled("main/email/3", Stepped(CHANGES), batch="b").result is None


# ── a step that did not ──────────────────────────────────────────────────────────────────────────

PLACES = ["main/charge/1", "main/email/3", "main/email/3/compose", "undo/main/charge/1"]


def plain(state: State, attempt: int, history: str, **fields: Any) -> Settlement:
    return Settlement("j", 7, state, attempt, "orders", history=history, **fields)


BADLY: list[tuple[str, Outcome, int, Settlement]] = [
    ("tried again", Errored(ERROR), 0, plain(State.AVAILABLE, 1, "retry", delay=7.0, error=ERROR)),
    ("snoozed", Again(9.0, "later"), 1, plain(State.AVAILABLE, 1, "snoozed", delay=9.0, reason="later")),
    ("again", Again(9.0, error=ERROR), 0, plain(State.AVAILABLE, 1, "retry", delay=9.0, error=ERROR)),
    ("cancelled", Cancelled("asked"), 1, plain(State.CANCELLED, 1, "cancelled", reason="asked")),
    ("parked", Park("unknown step"), 0, plain(State.PARKED, 0, "parked", reason="unknown step")),
    ("released", Release("stopping"), 1, plain(State.AVAILABLE, 1, "released", reason="stopping")),
]


@pytest.mark.parametrize("cursor", PLACES)
@pytest.mark.parametrize("row", BADLY, ids=[row[0] for row in BADLY])
def test_a_step_that_did_not_end_well_stays_where_it_is(cursor: str, row: tuple[str, Outcome, int, Settlement]) -> None:
    """No cursor, no changes: the store keeps the place, and a jump that was said is forgotten."""
    _, outcome, attempt, expected = row
    there = settled(cursor, outcome, attempt=attempt, keep=True)
    assert there == expected
    assert (there.cursor, there.advance) == (None, None)


@pytest.mark.parametrize("outcome", [Errored(ERROR), Failed(ERROR), Again(1.0, error=ERROR)])
@pytest.mark.parametrize("cursor", ["main/email/3", "main/email/3/compose"])
def test_a_step_that_fails_for_good_begins_the_undoing_of_those_before_it(cursor: str, outcome: Outcome) -> None:
    assert settled(cursor, outcome, attempt=1) == moved(
        cursor, State.AVAILABLE, "undo/3", attempt=2, history="failed", error=ERROR, ending=ENDING
    )


@pytest.mark.parametrize(
    ("cursor", "undoes"),
    [("main/charge/1", True), ("main/email/3", False), ("undone/1", True)],
    ids=["nothing was done", "nothing has an undo", "everything was undone"],
)
def test_where_there_is_nothing_to_undo_it_fails_at_once(cursor: str, undoes: bool) -> None:
    assert settled(cursor, Failed(ERROR), undoes=undoes) == plain(State.FAILED, 1, "failed", error=ERROR)


def test_an_undo_that_failed_says_which_it_was() -> None:
    end = settled("undo/main/charge/1", Failed(ERROR))
    assert end == plain(State.FAILED, 1, "failed", error=end.error)
    assert end.error is not None
    assert (end.error.type, end.error.message) == (
        ERROR.type,
        f"the undo of main/charge (visit 1) failed: {ERROR.message}",
    )


def test_a_cancelled_step_undoes_nothing() -> None:
    assert settled("main/email/3", Cancelled("asked")).advance is None


def test_a_step_that_yields_pieces_waits_for_them_at_its_own_place() -> None:
    assert settled("main/email/3", Seal(5)) == Settlement(
        "j", 7, State.WAITING, 0, "orders", cursor="main/email/3/compose", seal=5
    )


# ── undoing ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("keep", "state"), [(True, State.RUNNING), (False, State.AVAILABLE)])
def test_an_undo_that_ended_leads_to_those_before_it(keep: bool, state: State) -> None:
    assert settled("undo/main/set_up/2", Undone(CHANGES), keep=keep, ending=ENDING) == moved(
        "undo/main/set_up/2", state, "undo/2", changes=CHANGES, history="undone"
    )


def test_the_next_undo_runs_where_it_says_or_where_the_operation_does() -> None:
    assert settled("undo/3", UndoNext("undo/main/charge/1"), ending=ENDING) == moved(
        "undo/3", State.AVAILABLE, "undo/main/charge/1"
    )
    assert settled("undo/3", UndoNext("undo/main/charge/1"), queue="slow", ending=ENDING).advance == Advance(
        "undo/3", queue="orders"
    )


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (ENDING, {"state": State.FAILED, "history": "failed", "error": ERROR}),
        (Ending(State.CANCELLED, reason="no"), {"state": State.CANCELLED, "history": "cancelled", "reason": "no"}),
    ],
)
def test_when_nothing_is_left_to_be_undone_it_ends_as_it_was_to(ending: Ending, expected: dict[str, Any]) -> None:
    state = expected.pop("state")
    assert settled("undo/1", UndoNext(None), ending=ending) == moved("undo/1", state, "undone/1", **expected)


def test_a_settlement_leads_to_a_place_that_can_be_read() -> None:
    for cursor, outcome, _ in WELL.values():
        assert isinstance(read_cursor(settled(cursor, outcome).cursor or ""), Place)
    assert read_cursor(settled("main/email/3", Failed(ERROR)).cursor or "") == Undoing(3)


def test_every_outcome_is_tried() -> None:
    tried = {type(row[1]) for row in BADLY} | {type(row[1]) for row in WELL.values()} | {Failed, Seal, Undone, UndoNext}
    kinds = {kind for kind in vars(outcomes).values() if isinstance(kind, type) and issubclass(kind, Outcome)}
    assert kinds - {Outcome, Complete} == tried  # an operation has steps, and no result of its own
