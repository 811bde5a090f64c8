"""Operations that wait, that are split, and that undo what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ops import SOON, Declared, Running, a_step, a_wait
from support import until

from piecework import Piece, Pieces, Piecework, current
from piecework.codec import ResultCodec
from piecework.job import BatchState, Filter, OnFailure
from piecework.registry import Compose
from piecework.stepping import Step
from piecework.testing import drain


def nothing(step: Step) -> None:
    """A step that does nothing."""


def retry(app: Piecework, op: Running) -> None:
    assert app.store.retry(Filter(ids=(op.id,))) == 1


# ── waits ────────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_waits_for_a_signal_and_holds_nobody(app: Piecework) -> None:
    def tell(step: Step) -> None:
        step["told"] = step["approval"]["by"]

    op = Declared(app, "fulfilment", {"main": [nothing, a_wait("approval"), tell]}).start()
    drain(app)
    record = op.record
    assert (op.state, record.attempt, record.cursor) == ("waiting", 0, "main/approval/2")
    assert op.signal("another") is True
    drain(app)
    assert op.state == "waiting"
    assert op.signal("approval", {"by": "Ada"}) is True
    drain(app)
    assert op.state == "completed"
    assert op.globals == {"approval": {"by": "Ada"}, "told": "Ada"}
    assert op.walked == ["main/nothing", "main/approval", "main/tell"]


def test_signals_that_came_before_their_wait_are_taken_oldest_first(app: Piecework) -> None:
    main = [nothing, a_wait("first", into="a"), a_wait("second", into="b")]
    main[2].wait = main[1].wait
    op = Declared(app, "fulfilment", {"main": main}).start()
    op.signal("first", 1)
    op.signal("first", 2)
    drain(app)
    assert op.state == "completed"
    assert op.globals == {"a": 2}
    assert [signal.taken_at is not None for signal in app.store.signals(op.id)] == [True, True]


def test_a_wait_that_is_over_leads_where_it_says_and_else_fails(app: Piecework) -> None:
    branches = {"main": [a_wait("approval", timeout=0.05, otherwise="expired"), nothing], "expired": [a_step(nothing)]}
    goes_on = Declared(app, "goes_on", {**branches, "expired": [a_step(nothing, name="tell")]}).start()
    fails = Declared(app, "fails", {"main": [a_wait("approval", timeout=0.05), nothing]}).start()
    with app.worker():
        until(lambda: goes_on.record.state.finished and fails.record.state.finished)
    assert goes_on.story == ["main/approval/1 timed out", "expired/tell/2 completed"]
    assert fails.story == ["main/approval/1 failed"]
    assert fails.record.error is not None
    assert fails.record.error.type == "piecework.errors.WaitTimedOut"
    with app.worker():
        retry(app, fails)  # it waits again, as long, and in vain
        until(lambda: fails.state == "failed" and len(fails.lines) == 2)
    retry(app, fails)
    assert fails.signal("approval") is True
    drain(app)
    assert fails.state == "completed"


@pytest.mark.elsewhere(shelf=())
def test_a_step_says_that_the_next_waits_and_that_gets_what_came(app: Piecework) -> None:
    ran: list[Any] = []

    def ask(step: Step) -> None:
        step.wait_for("answer", into="said")

    def use(step: Step) -> None:
        ran.append((step["said"], step.attempt))
        if step.attempt == 1:
            raise ValueError("the first try; what was received is not lost with it")

    op = Declared(app, "fulfilment", {"main": [ask, use]}, **SOON).start()
    drain(app)
    assert op.state == "waiting"
    assert op.record.cursor == "main/use/2"
    op.signal("answer", 42)
    drain(app)
    assert ran == [(42, 1), (42, 2)]
    assert op.globals == {"said": 42}


@pytest.mark.parametrize("early", [True, False])
def test_the_delay_of_a_step_that_a_signal_is_waited_for_counts_from_the_signal(app: Piecework, early: bool) -> None:
    def ask(step: Step) -> None:
        step.wait_for("answer")

    op = Declared(app, "fulfilment", {"main": [ask, a_step(nothing, name="late", delay=600)]}).start()
    assert not early or op.signal("answer")
    drain(app)
    assert early or (op.state, op.signal("answer")) == ("waiting", True)
    assert drain(app) == 0
    assert (op.state, op.record.cursor) == ("available", "main/late/2")
    assert 590 < op.record.run_at - app.clock.now() < 601


@pytest.mark.elsewhere(shelf=())
def test_a_step_whose_wait_is_over_is_not_run(app: Piecework) -> None:
    ran: list[str] = []

    def ask(step: Step) -> None:
        step.wait_for("answer", timeout=0.05, otherwise="late" if step["elsewhere"] else None)

    def use(step: Step) -> None:
        ran.append(step.name)

    declared = Declared(app, "fulfilment", {"main": [ask, use], "late": [a_step(use, name="tell")]})
    jumps, fails = declared.start(elsewhere=True), declared.start(elsewhere=False)
    with app.worker():
        until(lambda: jumps.record.state.finished and fails.record.state.finished)
    assert ran == ["tell"]
    assert (jumps.state, fails.state) == ("completed", "failed")


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def double(app: Piecework) -> Any:
    @app.task(name="double", attempts=1)
    def double(n: int) -> int:
        if n < 0:
            raise ValueError(f"{n} is negative")
        return 2 * n

    return double


def joined(function: Callable[..., Any]) -> Compose:
    return Compose(function, ResultCodec(function, "a test"))


def test_a_step_is_split_into_pieces_and_they_are_joined(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        for n in step["numbers"]:
            yield double.piece(n)

    def join(pieces: Pieces[int], step: Step) -> int:
        step["count"] = len(pieces)
        step.jump_to("tell")
        return sum(pieces.results())

    main = [nothing, a_step(export, compose=joined(join), into="sum"), a_step(nothing, name="skipped")]
    op = Declared(app, "fulfilment", {"main": [*main, a_step(nothing, name="tell")]}).start(numbers=[1, 2, 3])
    drain(app)
    assert op.state == "completed"
    assert op.globals == {"numbers": [1, 2, 3], "count": 3, "sum": 12}
    assert op.walked == ["main/nothing", "main/export", "main/tell"]
    assert [line.cursor for line in op.lines][1] == "main/export/2/compose"


def test_a_step_of_pieces_without_a_compose_ends_when_they_have(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        yield double.piece(1)

    def none(step: Step) -> Iterator[Piece[int]]:
        yield from ()

    op = Declared(app, "fulfilment", {"main": [export, none]}).start()
    drain(app)
    assert op.walked == ["main/export", "main/none"]
    assert op.globals == {}


@pytest.mark.elsewhere(shelf=())
def test_a_registered_split_as_a_step(app: Piecework, double: Any) -> None:
    @app.split(name="export")
    def export(topic: int) -> Iterator[Piece[int]]:
        yield double.piece(topic)

    @export.compose
    def join(pieces: Pieces[int], topic: int) -> list[int]:
        return [topic, *pieces.results()]

    op = Declared(app, "fulfilment", {"main": [a_step(export)]}).start(topic=4)
    drain(app)
    assert op.globals == {"topic": 4, "export": [4, 8]}


@pytest.mark.parametrize("on_failure", [OnFailure.FINISH, OnFailure.FAIL_FAST])
def test_a_failed_piece_fails_the_operation_and_comes_back_with_it(
    app: Piecework, double: Any, on_failure: OnFailure
) -> None:
    bad = [True]

    @app.task(name="check", attempts=1)
    def check(n: int) -> int:
        if bad[0] and n == 2:
            raise ValueError("boom")
        return n

    offered: list[int] = []

    def export(step: Step) -> Iterator[Piece[int]]:
        offered.append(step.attempt)
        for n in (1, 2, 3):
            yield check.piece(n)

    def join(pieces: Pieces[int], step: Step) -> int:
        return sum(pieces.results())

    op = Declared(app, "fulfilment", {"main": [a_step(export, compose=joined(join), on_failure=on_failure)]}).start()
    drain(app, concurrency=1)
    assert op.state == "failed"
    assert op.record.error is not None
    assert (op.record.error.type, op.record.error.message) == ("PieceFailed", "piece 1 failed: ValueError: boom")
    assert op.story == ["main/export/1/compose failed"]
    bad[0] = False
    retry(app, op)
    assert op.state == "waiting"
    drain(app)
    assert op.state == "completed"
    assert op.globals == {"export": 6}
    assert offered == [1]


@pytest.mark.parametrize("kind", ["pieces", "split"])
@pytest.mark.parametrize("more", [200, 60])
def test_a_piece_that_fails_while_others_are_still_made_fails_the_step(app: Piecework, kind: str, more: int) -> None:
    """`fail_fast`, and the generator has not come to its end: what it offers then, or the seal, finds that it failed.

    The operation fails with its piece's error; it is not cancelled, which would be somebody's wish.
    """
    bad = [True]

    @app.task(name="check", attempts=1)
    def check(n: int) -> int:
        if bad[0]:
            raise ValueError("boom")
        return n

    def export(step: Step) -> Iterator[Piece[int]]:
        yield from made()

    def made() -> Iterator[Piece[int]]:
        for n in range(60):
            yield check.piece(n)
        if bad[0]:
            until(lambda: _of(app, op.id).state is BatchState.FAILED)
        for n in range(60, more):
            yield check.piece(n)

    def join(pieces: Pieces[int], step: Step) -> int:
        return sum(pieces.results())

    @app.split(name="split", on_failure="fail_fast")
    def split() -> Iterator[Piece[int]]:
        yield from made()

    @split.compose
    def sums(pieces: Pieces[int]) -> int:
        return sum(pieces.results())

    step = a_step(export, compose=joined(join), on_failure=OnFailure.FAIL_FAST)
    if kind == "split":
        step = a_step(split, name="export")
    op = Declared(app, "fulfilment", {"main": [step]}).start()
    with app.worker(concurrency=2):
        until(lambda: op.record.state.finished)
        assert op.state == "failed"
        assert op.record.error is not None
        assert op.record.error.message == "piece 0 failed: ValueError: boom"
        bad[0] = False
        retry(app, op)
        until(lambda: op.record.state.finished)
    assert op.state == "completed"
    assert op.globals == {"export": sum(range(more))}


def _of(app: Piecework, id: str) -> Any:
    record = app.store.batch(f"{id}/1")
    assert record is not None
    return record


@pytest.mark.elsewhere(shelf=())
def test_a_generator_that_raises_is_run_again_and_offers_no_piece_twice(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        for n in range(60):
            yield double.piece(n)
        if step.attempt == 1:
            raise ValueError("the source is gone for a moment")

    op = Declared(app, "fulfilment", {"main": [export]}, **SOON).start()
    drain(app)
    assert op.story == ["main/export/1 retry", "main/export/1/compose completed"]
    assert _of(app, op.id).total == 60


@pytest.mark.elsewhere(shelf=())
def test_a_compose_that_sees_failures_sees_them_in_a_step(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        for n in (1, -1):
            yield double.piece(n)

    def join(pieces: Pieces[int], step: Step) -> list[int]:
        return [pieces.completed, pieces.failed]

    step = a_step(export, compose=joined(join), on_failure=OnFailure.COMPOSE)
    op = Declared(app, "fulfilment", {"main": [step]}).start()
    drain(app)
    assert op.globals == {"export": [1, 1]}


@pytest.mark.elsewhere(shelf=())
def test_the_compose_of_a_step_is_tried_again_and_the_pieces_are_not(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        yield double.piece(1)

    def join(pieces: Pieces[int], step: Step) -> int:
        if step.attempt == 1:
            raise ValueError("not yet")
        return sum(pieces.results())

    op = Declared(app, "fulfilment", {"main": [a_step(export, compose=joined(join))]}, **SOON).start()
    drain(app)
    assert op.story == ["main/export/1/compose retry", "main/export/1/compose completed"]
    assert op.globals == {"export": 2}


def test_a_step_that_is_split_in_a_loop_has_a_batch_for_each_visit(app: Piecework, double: Any) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        yield double.piece(step.get("export", 1))

    def join(pieces: Pieces[int], step: Step) -> int:
        if step.visit < 3:
            step.jump_to("export")
        return sum(pieces.results())

    op = Declared(app, "fulfilment", {"main": [a_step(export, compose=joined(join))]}).start()
    drain(app)
    assert op.globals == {"export": 8}
    for visit in (1, 2, 3):
        batch = app.store.batch(f"{op.id}/{visit}")
        assert batch is not None
        assert (batch.state, batch.total) == (BatchState.DONE, 1)


@pytest.mark.elsewhere(shelf=())
def test_a_splitting_step_that_sets_a_global_is_told_to_do_so_in_its_compose(app: Piecework, double: Any) -> None:
    def sets(step: Step) -> Iterator[Piece[int]]:
        yield double.piece(1)
        step["a"] = 1

    def changes(step: Step) -> Iterator[Piece[int]]:
        step["list"].append(1)
        yield double.piece(1)

    def jumps(step: Step) -> Iterator[Piece[int]]:
        step.jump_to("jumps")
        yield double.piece(1)

    for step in (sets, changes, jumps):
        op = Declared(app, step.__name__, {"main": [a_step(step, attempts=1)]}).start(list=[])
        drain(app)
        assert op.state == "failed"
        assert op.record.error is not None
        assert "its compose may" in op.record.error.message


def test_an_operation_is_a_piece_of_a_split_and_its_globals_are_its_result(app: Piecework) -> None:
    def add(step: Step) -> None:
        step["sum"] = step["a"] + step["b"]

    declared = Declared(app, "add", {"main": [nothing, add]})
    (first,) = [declared.start(a=1, b=2)]
    drain(app)
    assert first.record.result is None  # only a piece's is kept twice
    with app.batch() as batch:
        batch.flush()
        ids = [declared.new({"a": n, "b": 1}, {}, batch=batch.id, ordinal=n, root=batch.id) for n in range(2)]
        app.store.add(ids)
    drain(app)
    assert [piece.result for piece in app.store.pieces(batch.id)] == ['{"a":0,"b":1,"sum":1}', '{"a":1,"b":1,"sum":2}']
    record = batch.record
    assert record is not None
    assert (record.state, record.completed) == (BatchState.DONE, 2)


# ── undoing ──────────────────────────────────────────────────────────────────────────────────────


class Undone:
    """Steps with undos that note what they do, and fail where they are told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.bad: set[str] = set()

    def step(self, name: str) -> Any:
        def act(step: Step) -> None:
            self._note(name)
            step[name] = "done"

        def undo(step: Step) -> None:
            self._note(f"un{name}")
            step["error"] = None if step.error is None else step.error.message
            del step[name]

        return a_step(act, name=name, attempts=1, undo=a_step(undo, attempts=1))

    def _note(self, name: str) -> None:
        self.done.append(name)
        if name in self.bad:
            raise ValueError(f"{name} is bad")


@pytest.fixture
def undone() -> Undone:
    return Undone()


def test_an_operation_that_fails_for_good_undoes_what_it_did_newest_first(app: Piecework, undone: Undone) -> None:
    undone.bad = {"c"}
    main = [undone.step("a"), a_step(nothing), undone.step("b"), undone.step("c")]
    op = Declared(app, "fulfilment", {"main": main}).start()
    drain(app)
    assert undone.done == ["a", "b", "c", "unb", "una"]
    assert op.state == "failed"
    assert op.record.error is not None
    assert (op.record.error.type, op.record.error.message) == ("ValueError", "c is bad")
    assert op.globals == {"error": "c is bad"}
    assert [line for line in op.story if "undone" in line] == ["undo/main/b/3/3 undone", "undo/main/a/1/1 undone"]
    retry(app, op)
    drain(app)
    assert op.state == "failed"
    assert op.record.error is not None
    assert op.record.error.message == "c is bad"  # brought back it ends as it did, for the same reason
    assert undone.done == ["a", "b", "c", "unb", "una"]
    assert undone.done == ["a", "b", "c", "unb", "una"]


def test_an_undo_that_fails_says_so_and_is_tried_again_alone(app: Piecework, undone: Undone) -> None:
    undone.bad = {"c", "unb"}
    op = Declared(app, "fulfilment", {"main": [undone.step(name) for name in "abc"]}).start()
    drain(app)
    assert undone.done == ["a", "b", "c", "unb"]
    assert op.state == "failed"
    assert op.record.cursor == "undo/main/b/2/2"
    assert op.record.error is not None
    assert op.record.error.message == "the undo of main/b (visit 2) failed: unb is bad"
    undone.bad = set()
    retry(app, op)
    drain(app)
    assert undone.done == ["a", "b", "c", "unb", "unb", "una"]
    assert op.state == "failed"
    assert op.record.error is not None
    assert op.record.error.message == "c is bad"


def test_every_visit_of_a_loop_is_undone(app: Piecework) -> None:
    done: list[int] = []

    def act(step: Step) -> None:
        if step.visit < 3:
            step.jump_to("act")

    def undo(step: Step) -> None:
        done.append(step.visit)

    def fail(step: Step) -> None:
        raise ValueError("boom")

    op = Declared(app, "fulfilment", {"main": [a_step(act, undo=a_step(undo)), a_step(fail, attempts=1)]}).start()
    drain(app)
    assert done == [3, 2, 1]
    assert op.state == "failed"


@pytest.mark.elsewhere(shelf=())
def test_an_undo_has_no_say_in_the_way_on(app: Piecework) -> None:
    def undo(step: Step) -> None:
        step.jump_to("act")

    def fail(step: Step) -> None:
        raise ValueError("boom")

    main = [a_step(nothing, name="act", undo=a_step(undo, attempts=1)), a_step(fail, attempts=1)]
    op = Declared(app, "fulfilment", {"main": main}).start()
    drain(app)
    assert op.record.error is not None
    assert "an undo has no say in the way on" in op.record.error.message


@pytest.mark.elsewhere(shelf=())
def test_the_first_step_that_fails_has_nothing_to_undo(app: Piecework, undone: Undone) -> None:
    undone.bad = {"a"}
    op = Declared(app, "fulfilment", {"main": [undone.step("a"), undone.step("b")]}).start()
    drain(app)
    assert undone.done == ["a"]
    assert op.story == ["main/a/1 failed"]
    undone.bad = set()
    retry(app, op)
    drain(app)
    assert op.state == "completed"


@pytest.mark.parametrize("where", ["scheduled", "waiting", "pieces"])
def test_an_operation_that_is_cancelled_with_undo_undoes_first(
    app: Piecework, undone: Undone, double: Any, where: str
) -> None:
    def export(step: Step) -> Iterator[Piece[int]]:
        yield double.using(delay=600).piece(1)

    behind = {
        "scheduled": a_step(nothing, delay=600),
        "waiting": a_wait("approval"),
        "pieces": a_step(export),
    }[where]
    op = Declared(app, "fulfilment", {"main": [undone.step("a"), undone.step("b"), behind]}).start()
    drain(app)
    assert not op.record.state.finished
    assert app.store.cancel(Filter(ids=(op.id,)), reason="withdrawn", by="Ada", undo=True) == 1
    drain(app)
    assert undone.done == ["a", "b", "unb", "una"]
    assert op.state == "cancelled"
    assert op.record.reason == "withdrawn"
    assert op.globals == {"error": None}


def test_a_running_step_is_stopped_and_what_was_done_before_it_is_undone(app: Piecework, undone: Undone) -> None:
    began: list[bool] = []

    def long(step: Step) -> None:
        began.append(True)
        until(lambda: current.cancelled)
        current.check()

    op = Declared(app, "fulfilment", {"main": [undone.step("a"), long]}).start()
    with app.worker():
        until(lambda: began)
        app.store.cancel(Filter(ids=(op.id,)), reason="withdrawn", undo=True)
        until(lambda: op.record.state.finished)
    assert undone.done == ["a", "una"]
    assert op.state == "cancelled"


def test_a_step_that_completes_in_spite_of_the_stop_is_undone_too(app: Piecework, undone: Undone) -> None:
    began: list[bool] = []

    def long(step: Step) -> None:
        began.append(True)
        until(lambda: current.cancelled)

    def undo(step: Step) -> None:
        undone.done.append("unlong")

    op = Declared(app, "fulfilment", {"main": [undone.step("a"), a_step(long, undo=a_step(undo)), nothing]}).start()
    with app.worker():
        until(lambda: began)
        app.store.cancel(Filter(ids=(op.id,)), reason="withdrawn", undo=True)
        until(lambda: op.record.state.finished)
    assert undone.done == ["a", "unlong", "una"]
    assert op.state == "cancelled"
    assert op.walked == ["main/a", "main/long"]
