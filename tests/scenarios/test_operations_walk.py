"""Operations from end to end: steps in order, branches, jumps, loops, failures and their retries, on a real store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from leaping import LeapingClock
from operation_steps import Steps, names, told
from support import books

from piecework import JobFailed, Operation, Piecework, State, Step, branch, step
from piecework.errors import UsageError
from piecework.job import as_utc
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]


# ── in order ─────────────────────────────────────────────────────────────────────────────────────


def test_steps_run_in_order_one_attempt_each_and_the_end_is_that_of_the_last(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email])
    op = fulfil.later(subscription_id=7)
    drain(app)
    assert steps.ran == ["charge", "set_up", "email"]
    assert told(op) == [("charge", 1, "completed", 1), ("set_up", 2, "completed", 1), ("email", 3, "completed", 1)]
    assert (op.state, op.status) == (State.COMPLETED, "completed")
    assert op.result(timeout=0) == {"subscription_id": 7}
    assert as_utc(op.record().finished_at) == list(op.runs())[-1].finished_at


def test_every_kind_of_step_walks(app: Piecework) -> None:
    ran: list[str] = []

    async def call_home(step: Step[Any]) -> None:
        step["home"] = "called"

    class SetUp:
        def call(self, step: Step[Any]) -> None:
            ran.append(step.name)

    @app.task
    def square(n: int) -> int:
        return n * n

    @app.split
    def squares(n: int) -> Any:
        for m in range(n):
            yield square.piece(m)

    @squares.compose
    def total(pieces: Any, n: int) -> int:
        return sum(pieces.results())

    def own(step: Step[Any]) -> Any:
        for m in range(step["n"]):
            yield square.piece(m)

    main = [call_home, SetUp, square, squares, step(own, compose=lambda pieces, step: list(pieces.results()))]
    fulfil = app.operation("fulfilment", main=main)
    op = fulfil.later(n=3)
    drain(app)
    expected = {"n": 3, "home": "called", "square": 9, "squares": 5, "own": [0, 1, 4]}
    assert op.result(timeout=0) == expected
    assert fulfil(n=3) == expected  # now is as later
    assert ran == ["SetUp", "SetUp"]


# ── a step fails ─────────────────────────────────────────────────────────────────────────────────


def test_an_operation_goes_on_at_the_step_that_failed(app: Piecework, steps: Steps) -> None:
    """What completed is not run again; the attempt that failed is kept with its traceback."""

    def boom(step: Step[Any]) -> None:
        raise ValueError("boom")

    steps.acts["set_up"] = boom
    fulfil = app.operation("fulfilment", main=[steps.charge, step(steps.set_up, attempts=1), steps.email])
    op = fulfil.later(subscription_id=7)
    drain(app)
    assert told(op) == [("charge", 1, "completed", 1), ("set_up", 2, "failed", 1)]
    failed = list(op.runs())[-1]
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "boom")
    assert "in boom" in failed.error.traceback
    assert op.status == "failed at main/set_up"
    assert op.failed_at is not None
    assert (op.failed_at.branch, op.failed_at.step) == ("main", "set_up")
    with pytest.raises(JobFailed, match="boom"):
        op.result(timeout=0)
    assert op.record().attempt == 1

    steps.acts.clear()
    assert op.retry("the gateway is back") is True
    assert (op.error, op.failed_at) == (None, None)
    drain(app)
    assert steps.ran == ["charge", "set_up", "set_up", "email"]
    assert told(op) == [
        ("charge", 1, "completed", 1),
        ("set_up", 2, "failed", 1),
        ("set_up", 2, "completed", 1),
        ("email", 3, "completed", 1),
    ]
    assert [run.error for run in op.runs() if run.outcome == "completed"] == [None, None, None]
    (line,) = op.amendments()
    assert (line.what, line.reason, line.cursor_before) == ("retried", "the gateway is back", "main/set_up/2")
    assert "@" in line.by


def test_a_step_has_its_own_attempts_and_the_next_begins_anew(app: Piecework, steps: Steps) -> None:
    def until_the_third(step: Step[Any]) -> None:
        if step.attempt < 3:
            raise ValueError(f"attempt {step.attempt}")

    steps.acts |= {"charge": until_the_third, "email": until_the_third}
    op = app.operation("fulfilment", main=[steps.charge, steps.email], attempts=3, retry=0).later()
    drain(app)
    assert told(op) == [
        ("charge", 1, "retry", 1),
        ("charge", 1, "retry", 2),
        ("charge", 1, "completed", 3),
        ("email", 2, "retry", 1),
        ("email", 2, "retry", 2),
        ("email", 2, "completed", 3),
    ]


@pytest.mark.elsewhere(shelf=())
def test_of_a_step_that_was_tried_often_all_attempts_are_counted(app: Piecework, steps: Steps) -> None:
    def once_mended(step: Step[Any]) -> None:
        if "mended" not in step:
            raise ValueError("not yet")

    steps.acts["set_up"] = once_mended
    op = app.operation("f", main=[steps.charge, step(steps.set_up, attempts=130, retry=0), steps.email]).later()
    drain(app)
    op.set(mended=True)
    op.retry()
    drain(app)
    assert [(view.state, view.attempts) for view in op.steps] == [
        ("completed", 1),
        ("completed", 131),
        ("completed", 1),
    ]
    assert len(op.steps[1].runs) == 111  # the first 10, the last 100, and the one that completed


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("a\0b \ud800 " + "x" * 5_000_000)]
)
def test_whatever_a_step_raises_is_recorded(app: Piecework, steps: Steps, error: BaseException) -> None:
    """Also text that no database takes, and what is raised to end a process."""

    def raises(step: Step[Any]) -> None:
        raise error

    steps.acts["set_up"] = raises
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email], attempts=1).later()
    drain(app)
    assert op.status == "failed at main/set_up"
    assert op.error is not None
    assert op.error.type == type(error).__name__
    assert len(op.error.message) < 5_000
    assert "\0" not in op.error.message
    assert told(op) == [("charge", 1, "completed", 1), ("set_up", 2, "failed", 1)]


# ── branches and jumps ───────────────────────────────────────────────────────────────────────────


def test_a_step_jumps_to_a_branch_that_goes_on_in_main(app: Piecework, steps: Steps) -> None:
    after: list[str] = []

    def check(step: Step[Any]) -> None:
        step.jump_to("b1")
        step.jump_to("red")
        after.append("the rest of the step")

    steps.acts["charge"] = check
    op = app.operation(
        "fulfilment", main=[steps.charge, steps.email], red=branch(steps.set_up_red, then="email"), blue=[steps.b1]
    ).later()
    drain(app)
    assert steps.ran == ["charge", "set_up_red", "email"]
    assert after == ["the rest of the step"]
    assert told(op) == [("charge", 1, "completed", 1), ("set_up_red", 2, "completed", 1), ("email", 3, "completed", 1)]


def test_a_branch_that_says_nothing_ends_the_operation(app: Piecework, steps: Steps) -> None:
    """It does not fall back into main: steps that were passed by are not picked up at the end."""
    steps.acts["charge"] = lambda step: step.jump_to("red")
    op = app.operation("fulfilment", main=[steps.charge, steps.email], red=[steps.set_up_red]).later()
    drain(app)
    assert (steps.ran, op.state) == (["charge", "set_up_red"], State.COMPLETED)


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("way", ["function", "name", "dict", "place"])
def test_a_jump_to_a_step_of_a_branch_passes_those_before_it(app: Piecework, steps: Steps, way: str) -> None:
    b2, email = steps.b2, steps.email

    def to(branch: str, target: Any, step: Step[Any]) -> None:
        name = target.__name__
        {
            "function": lambda: step.jump_to(target),
            "name": lambda: step.jump_to(name),
            "dict": lambda: step.jump_to({branch: target}),
            "place": lambda: step.jump_to(branch, name),
        }[way]()

    steps.acts["charge"] = lambda step: to("blue", b2, step)
    steps.acts["b2"] = lambda step: to("main", email, step)
    op = app.operation("fulfilment", main=[steps.charge, email], blue=[steps.b1, b2]).later()
    drain(app)
    assert steps.ran == names(op) == ["charge", "b2", "email"]


@pytest.mark.elsewhere(shelf=())
def test_a_class_is_jumped_to_as_a_class(app: Piecework, steps: Steps) -> None:
    class B2:
        def call(self, step: Step[Any]) -> None:
            steps.ran.append("B2")

    steps.acts["charge"] = lambda step: step.jump_to(B2)
    op = app.operation("fulfilment", main=[steps.charge, steps.email, B2]).later()
    drain(app)
    assert steps.ran == names(op) == ["charge", "B2"]


def test_a_jump_forward_runs_its_target_once_and_then_ends(app: Piecework, steps: Steps) -> None:
    steps.acts["charge"] = lambda step: step.jump_to("email")
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email]).later()
    drain(app)
    assert (steps.ran, op.state) == (["charge", "email"], State.COMPLETED)


def test_a_jump_before_an_error_is_forgotten(app: Piecework, steps: Steps) -> None:
    def jump_then_raise(step: Step[Any]) -> None:
        if step.attempt == 1:
            step["half"] = "done"
            step.jump_to("email")
            raise ValueError("boom")
        assert "half" not in step

    steps.acts["charge"] = jump_then_raise
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email], retry=0).later()
    drain(app)
    assert steps.ran == ["charge", "charge", "set_up", "email"]
    assert op.globals == {}


def test_a_loop_comes_to_its_steps_as_other_visits(app: Piecework, steps: Steps) -> None:
    def twice_more(step: Step[Any]) -> None:
        step["rounds"] = step.get("rounds", 0) + 1
        if step["rounds"] < 3:
            step.jump_to("charge")

    steps.acts["email"] = twice_more
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email]).later()
    drain(app)
    assert steps.ran == ["charge", "set_up", "email"] * 3
    assert [run.visit for run in op.runs()] == list(range(1, 10))
    assert op.globals == {"rounds": 3}


def test_an_endless_loop_fails_at_its_limit_and_says_so(app: Piecework, steps: Steps) -> None:
    steps.acts["email"] = lambda step: step.jump_to("charge")
    op = app.operation("fulfilment", main=[steps.charge, steps.email], max_steps=7).later()
    drain(app)
    assert len(steps.ran) == 7
    assert op.state is State.FAILED
    assert op.error is not None
    assert op.error.type.endswith("StepLimit")
    assert "more than 7 steps" in op.error.message


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("target", ["greeen", ["red"], None, {}, {"red": "set_up_red", "blue": "b1"}, {"red": "b1"}, 7])
def test_a_jump_to_nowhere_is_that_steps_failure(app: Piecework, steps: Steps, target: Any) -> None:
    steps.acts["set_up"] = lambda step: step.jump_to(target)
    op = app.operation(
        "fulfilment",
        main=[steps.charge, steps.set_up, steps.email],
        red=[steps.set_up_red],
        blue=[steps.b1],
        attempts=1,
    ).later()
    drain(app)
    assert op.status == "failed at main/set_up"
    assert op.error is not None
    assert op.error.type.endswith("BadArguments")
    assert steps.ran == ["charge", "set_up"]


# ── globals ──────────────────────────────────────────────────────────────────────────────────────


def test_what_a_step_sets_is_seen_by_the_next_and_what_a_failed_one_set_is_not(app: Piecework, steps: Steps) -> None:
    def set_then_raise(step: Step[Any]) -> None:
        assert step.get("missing") is None
        assert step.get("missing", "default") == "default"
        with pytest.raises(KeyError):
            step["missing"]
        assert "lost" not in step
        step["lost" if step.attempt == 1 else "kept"] = 1
        step["list"].append(step.attempt)
        if step.attempt == 1:
            raise ValueError("boom")

    steps.acts["charge"] = lambda step: step.set("list", [0])
    steps.acts["set_up"] = set_then_raise
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up], retry=0).later()
    drain(app)
    assert op.globals == {"list": [0, 2], "kept": 1}


class Text(str):
    """Text of a library's own kind, such as a template's markup."""

    __slots__ = ()


class Word(str, Enum):  # noqa: UP042 - of the older kind, which is formatted with its class
    N, RED, OK, OTHER, PAINT = "n", "red", "ok", "other", "paint"


@pytest.mark.parametrize("kind", [Text, Word])
def test_whatever_kind_of_text_a_name_is_it_is_stored_as_plain_text(app: Piecework, kind: Callable[[str], str]) -> None:
    n, red, ok, other, paint = map(kind, ("n", "red", "ok", "other", "paint"))

    def first(step: Step[Any]) -> None:
        step[n] = [0]
        step.set(other, 1)
        del step[other]
        step.jump_to(red, paint)

    def second(step: Step[Any]) -> None:
        step[n].append(1)
        step.wait_for(ok, timeout=60, otherwise=red, into=other)

    walked = app.operation(
        "f", main=[first], branches={red: branch(step(second, name=paint), step(first, name="last"))}, attempts=1
    )
    op = walked.later({other: 0})
    drain(app)
    assert (op.status, op.globals) == ("waiting for ok", {"n": [0, 1]})
    assert walked.where({n: [1]}).only(step="last").first() == op
    op.set({other: 2}, by=red, reason=red)
    op.unset(other)
    op.jump_to(red, paint)
    drain(app)
    assert op.signal(ok, "yes")
    op.fork({other: 3}, after=paint)
    assert [run.name for run in op.runs()] == ["first", "paint", "paint"]
    op.cancel(red)
    assert op.record().reason == "red"


def test_two_who_set_different_globals_at_once_both_have_their_say(app: Piecework, steps: Steps) -> None:
    """A step runs, and has read the globals already, while somebody sets another one by hand."""
    reached, go = threading.Event(), threading.Event()

    def slow(step: Step[Any]) -> None:
        step["a"] = step["n"] + 1
        reached.set()
        assert go.wait(20)

    steps.acts["charge"] = slow
    op = app.operation("fulfilment", main=[steps.charge]).later(n=0)
    with app.worker(concurrency=1):
        assert reached.wait(20)
        op.set(b=2)
        go.set()
        assert op.result(timeout=20) == {"n": 0, "a": 1, "b": 2}


def test_the_globals_after_each_step_can_be_read_also_what_was_set_by_hand(app: Piecework, steps: Steps) -> None:
    def boom(step: Step[Any]) -> None:
        if "fixed" not in step:
            raise ValueError("boom")
        del step["fixed"]

    steps.acts["charge"] = lambda step: step.set("a", 1)
    steps.acts["set_up"] = boom
    op = app.operation("fulfilment", main=[steps.charge, steps.set_up, steps.email], attempts=1).later(n=0)
    drain(app)
    op.set(fixed=True)
    op.retry()
    drain(app)
    assert [(run.name, run.outcome, run.globals) for run in op.runs()] == [
        ("charge", "completed", {"n": 0, "a": 1}),
        ("set_up", "failed", None),
        ("set_up", "completed", {"n": 0, "a": 1}),
        ("email", "completed", {"n": 0, "a": 1}),
    ]
    assert op.globals == {"n": 0, "a": 1}


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_step_holds_nobody_and_spends_nothing(app: Piecework, steps: Steps, leaping: LeapingClock) -> None:
    op = app.operation("fulfilment", main=[steps.charge, step(steps.email, delay=600)]).later()
    drain(app)
    assert (steps.ran, op.status) == (["charge"], "scheduled: main/email")
    assert (op.record().attempt, op.state) == (0, State.AVAILABLE)
    leaping.leap(599)
    assert drain(app) == 0
    leaping.leap(2)
    drain(app)
    assert (steps.ran, op.status) == (["charge", "email"], "completed")


def test_a_delay_of_the_first_step_is_that_of_the_start_unless_the_call_says_otherwise(
    app: Piecework, steps: Steps, leaping: LeapingClock
) -> None:
    fulfil = app.operation("fulfilment", main=[step(steps.charge, delay=600)])
    op, sooner = fulfil.later(), fulfil.using(delay=0).later()
    drain(app)
    assert (op.status, sooner.status) == ("scheduled: main/charge", "completed")
    leaping.leap(601)
    drain(app)
    assert op.status == "completed"


def test_a_step_runs_in_its_own_queue_and_the_next_in_that_of_the_start(app: Piecework, steps: Steps) -> None:
    seen: list[str] = []
    main = [steps.charge, step(steps.set_up, queue="slow", priority=9), steps.email]
    fulfil = app.operation("fulfilment", main=main, queue="orders")
    for name in ("charge", "set_up", "email"):
        steps.acts[name] = lambda step: seen.append(op.record().queue)
    op = fulfil.using(queue="urgent", priority=1).later()
    drain(app)
    assert seen == ["urgent", "slow", "urgent"]
    assert op.record().priority == 1


# ── the start ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}])
def test_a_start_with_what_cannot_be_a_global_leaves_nothing(app: Piecework, steps: Steps, value: Any) -> None:
    fulfil = app.operation("fulfilment", main=[steps.charge])
    with pytest.raises(UsageError):
        fulfil.later(x=value)
    with pytest.raises(UsageError, match="call 1"):
        fulfil.later_many([{"n": 1}, {"x": value}])
    assert fulfil.where().count() == 0
    assert app.jobs.where().count() == 0


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_an_operation_is_a_piece_whose_result_is_its_globals(app: Piecework, steps: Steps, tmp_path: Path) -> None:
    steps.acts["email"] = lambda step: step.set("sent", step["n"])
    fulfil = app.operation("fulfilment", main=[steps.charge, steps.email])

    @app.split
    def everyone(n: int) -> Any:
        for m in range(n):
            yield fulfil.piece(n=m)

    @everyone.compose
    def sent(pieces: Any, n: int) -> list[int]:
        return [globals["sent"] for globals in pieces.results()]

    job = everyone.later(3)
    drain(app)
    assert job.result(timeout=0) == [0, 1, 2]
    assert [type(piece) for piece in job.pieces()] == [Operation] * 3
    assert books(tmp_path / "jobs.db") == []


def test_an_operation_follows_a_batch(app: Piecework, steps: Steps) -> None:
    fulfil = app.operation("fulfilment", main=[steps.charge, steps.email])

    @app.task
    def square(n: int) -> int:
        return n * n

    with app.batch(then=fulfil.piece(n=1)) as batch:
        batch.add(square.piece(2))
        batch.add(fulfil.piece(n=2))
        batch.flush()
        op = batch.then
        assert isinstance(op, Operation)
        assert op.status == "waiting for the batch before main/charge"
        with pytest.raises(UsageError, match="waits for the batch before it"):
            op.skip()
    drain(app)
    assert op.result(timeout=0) == {"n": 1}
    assert steps.ran == ["charge", "email"] * 2


def test_a_step_that_waits_for_its_pieces_says_so_and_is_not_moved(app: Piecework, steps: Steps) -> None:
    @app.task(queue="later")
    def square(n: int) -> int:
        return n * n

    def pieces(step: Step[Any]) -> Any:
        yield square.piece(2)

    op = app.operation("fulfilment", main=[steps.charge, pieces, steps.email]).later()
    app.jobs.pause("later")
    drain(app)
    assert op.status == "waiting for the pieces of main/pieces"
    with pytest.raises(UsageError, match=r"waits for the pieces of a step \(main/pieces\)"):
        op.jump_to("email")
    op.set(n=1)
    app.jobs.unpause("later")
    drain(app)
    assert (op.status, op.globals) == ("completed", {"n": 1})


@pytest.mark.elsewhere(shelf=())
def test_now_refuses_what_later_refuses(app: Piecework, steps: Steps) -> None:
    """A step that yields pieces says nothing while it does, its compose may; and an undo has no say in the way on."""

    @app.task
    def square(n: int) -> int:
        return n * n

    def setting(step: Step[Any]) -> Any:
        yield square.piece(2)
        step["a"] = 1

    def leaping(step: Step[Any]) -> Any:
        step.jump_to("main")
        yield square.piece(2)

    def appending(step: Step[Any]) -> Any:
        yield square.piece(2)
        step["kept"].append(1)

    def pieces(step: Step[Any]) -> Any:
        yield square.piece(2)

    def joined(pieces: Any, step: Step[Any]) -> None:
        step["sum"] = sum(pieces.results())

    def jumping(made: Step[Any]) -> None:
        made.jump_to("email")

    steps.acts["email"] = lambda made: made["boom"]
    wrong = [app.operation(act.__name__, main=[act], attempts=1) for act in (setting, leaping, appending)]
    fine = app.operation("fine", main=[step(pieces, compose=joined)])
    undo = app.operation("undo", main=[step(steps.charge, undo=step(jumping, attempts=1)), steps.email], attempts=1)
    ops = [operation.later(kept=[]) for operation in wrong]
    good, bad = fine.later(), undo.later()
    drain(app)
    assert [op.state for op in (*ops, good, bad)] == ["failed", "failed", "failed", "completed", "failed"]
    for operation, op in zip(wrong, ops, strict=True):
        with pytest.raises(UsageError, match="says nothing more while it does") as raised:
            operation(kept=[])
        assert op.error is not None
        assert op.error.type.endswith(type(raised.value).__name__)
        assert op.error.message == str(raised.value)
    assert fine() == good.globals == {"sum": 4}
    with pytest.raises(UsageError, match="an undo has no say in the way on"):
        undo()


def test_each_walk_now_has_an_id_of_its_own_that_all_its_steps_and_undos_share(app: Piecework) -> None:
    """Steps make the keys of their effects of it: two orders that run now must not be taken for one."""
    seen: list[str] = []

    def note(step: Step[Any]) -> None:
        seen.append(step.operation_id)

    def fail(step: Step[Any]) -> None:
        raise ValueError("no")

    twice = app.operation("twice", main=[note, step(note, name="again")])
    twice()
    twice()
    assert len(set(seen)) == 2
    assert seen[0] == seen[1] != seen[2] == seen[3]

    seen.clear()
    with pytest.raises(ValueError, match="no"):
        app.operation("undone", main=[step(note, undo=note), fail])()
    assert len(seen) == 2
    assert len(set(seen)) == 1
