"""The same method of an equal object, now or later: what the worker builds, what it calls, and with what."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import object_shapes as shapes
import pytest
from object_shapes import (
    SAID,
    Box,
    Child,
    Concrete,
    Data,
    Everything,
    Frozen,
    MadeByNew,
    Mixed,
    MoreData,
    Nothing,
    OtherArguments,
    Outer,
    Pair,
    Slotted,
    SlottedChild,
    SomeProcess,
    Typed,
)

from piecework import Piece, Pieces, Piecework, State
from piecework.errors import JobFailed, UsageError
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it, and after


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    SAID.clear()
    yield
    SAID.clear()


@pytest.fixture
def app(app: Piecework) -> Piecework:
    """An app that knows the classes. Registering is all that is done to them."""
    for kind in (
        SomeProcess,
        Everything,
        Typed,
        Nothing,
        Data,
        Frozen,
        Slotted,
        MadeByNew,
        Pair,
        Box,
        shapes.Abstract,
        Outer.Inner,
    ):
        assert app.task(kind) is kind
    return app


def later(app: Piecework, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    job = app.later(method, *args, **kwargs)
    drain(app)
    return job.result(timeout=0)


# ── the object, and its method ───────────────────────────────────────────────────────────────────


def test_the_worker_builds_the_object_with_the_same_text_and_calls_its_method_once(app: Piecework) -> None:
    job = app.later(SomeProcess("ee6f1d66").call)
    assert job.id
    assert SAID == []
    drain(app)
    assert SAID == [("SomeProcess", "ee6f1d66", 0, False)]
    assert job.state is State.COMPLETED
    assert job.task == "object_shapes.SomeProcess.call"


def test_what_is_stored_names_every_argument(app: Piecework) -> None:
    job = app.later(Everything(1, 2, 3, c=5, e=6).call)
    assert job.record().args == '{"object":{"a":1,"b":2,"rest":[3],"c":5,"kw":{"e":6}},"call":{}}'


def test_every_kind_of_parameter_is_bound_as_it_was(app: Piecework) -> None:
    assert later(app, Everything(1, 2, 3, c=5, e=6).call) == Everything(1, 2, 3, c=5, e=6).bound
    assert later(app, Everything("a", b=2, c=None, d=0, a="in kw").call) == ["a", 2, [], None, 0, {"a": "in kw"}]


def test_types_arrive_as_they_were(app: Piecework) -> None:
    typed = Typed(UUID(int=7), datetime(2024, 1, 1, tzinfo=UTC), ((1, "one"),))
    assert later(app, typed.call) == typed.call()


@pytest.mark.parametrize("last", [{"trigger_method": "x"}, {"object": 1, "call": 2}, {"queue": "q"}, [["nested"]]])
def test_a_last_argument_that_looks_like_machinery_is_data(app: Piecework, last: Any) -> None:
    made = Everything(last, 1, c=last)
    assert later(app, made.call) == [last, 1, [], last, 4, {}]


def test_options_of_the_call_and_arguments_of_the_method_are_apart(app: Piecework, leaping: Any) -> None:
    job = app.using(delay=60, queue="low", priority=5).later(SomeProcess("a").call, 1, flag=True)
    record = job.record()
    assert (record.queue, record.priority) == ("low", 5)
    assert drain(app) == 0
    leaping.leap(61)
    drain(app)
    assert job.result(timeout=0) == ["a", 1, True]


def test_arguments_that_are_named_like_options_reach_the_method(app: Piecework) -> None:
    said = later(app, SomeProcess("a").told, queue="q", delay=3, key="k", within="w", target="t")
    assert said == ["q", 3, "k", "w", "t"]


def test_options_are_laid_on_each_other(app: Piecework) -> None:
    @app.task(queue="own", priority=1)
    def plain(n: int) -> int:
        return n

    record = app.using(delay=3).using(priority=7).later(plain.using(queue="theirs"), 1).record()
    assert (record.queue, record.priority) == ("theirs", 7)
    assert app.later(plain, 2).record().queue == "own"
    with pytest.raises(UsageError, match=r"app\.using: unknown option 'quueue'"):
        app.using(quueue="x")  # type: ignore[call-arg]


def test_a_task_is_taken_too(app: Piecework) -> None:
    @app.task
    def plain(n: int) -> int:
        return n + 1

    assert later(app, plain, 1) == 2


def test_the_options_of_the_class_are_those_of_its_methods(app: Piecework) -> None:
    app.task(queue="toxic", priority=3, attempts=1, name="renamed")(SomeProcess)
    job = app.later(SomeProcess("x").fails)
    assert (job.record().task, job.record().queue, job.record().priority) == ("renamed.fails", "toxic", 3)
    drain(app)
    with pytest.raises(JobFailed, match="bad x"):
        job.result(timeout=0)


def test_a_unique_key_names_one_job(app: Piecework) -> None:
    once = app.using(key="once")
    assert once.later(SomeProcess("a").call) == once.later(SomeProcess("b").call)


def test_the_queue_is_asked_by_the_name_of_the_method(app: Piecework) -> None:
    app.later(SomeProcess("a").call)
    app.later(SomeProcess("a").wait, 1)
    assert app.jobs.where(task="object_shapes.SomeProcess.call").count() == 1


def test_what_was_given_to_the_constructor_travels_and_not_what_was_set_afterwards(app: Piecework) -> None:
    process = SomeProcess("a")
    process.some_id = "b"
    assert process.call() == ["b", 0, False]
    assert later(app, process.call) == ["a", 0, False]


def test_a_coroutine_method_is_awaited(app: Piecework) -> None:
    assert later(app, SomeProcess("a").wait, 3) == ["a", 3]


async def test_later_is_awaited_from_a_coroutine(app: Piecework) -> None:
    job = await app.alater(SomeProcess("a").call, 1)
    drain(app)
    assert await job.aresult(timeout=0) == ["a", 1, False]
    assert (await app.using(queue="low").alater(SomeProcess("a").call)).queue == "low"


def test_the_method_knows_that_it_runs_in_a_job(app: Piecework) -> None:
    assert SomeProcess("a").where() is False
    assert later(app, SomeProcess("a").where) is True


def test_an_object_sends_its_own_method_later(app: Piecework) -> None:
    job = SomeProcess("a").soon(app)
    drain(app)
    assert job.result(timeout=0) == ["a", 0, False]


# ── classes of every shape ───────────────────────────────────────────────────────────────────────

MADE: list[tuple[Callable[[], Any], Any]] = [
    (lambda: Nothing(), "nothing"),
    (lambda: Data(2, ["t"], 3), [2, ["t"], 6]),
    (lambda: Data(2), [2, [], 2]),
    (lambda: MoreData(2, scale=2, z=datetime(1999, 1, 1, tzinfo=UTC)), [2, [], 4, 1999]),
    (lambda: Frozen(x=1, at=datetime(2001, 1, 1, tzinfo=UTC)), [1, 2001]),
    (lambda: Slotted(4), 4),
    (lambda: SlottedChild(4, y=2), 42),
    (lambda: MadeByNew(5), 5),
    (lambda: Pair(1), [1, "r"]),
    (lambda: Pair(1, right="s"), [1, "s"]),
    (lambda: Box[int](3), 3),
    (lambda: Concrete(8), 8),
    (lambda: Mixed("m", 9), ["m", 9]),
    (lambda: Outer.Inner(6), 6),
    (lambda: Child("c"), ["child", "c", 0, False]),
    (lambda: OtherArguments(1, second=3), ["1-3", 0, False]),
]


@pytest.mark.parametrize(("make", "answer"), MADE, ids=[str(n) for n in range(len(MADE))])
def test_an_object_of_this_shape_answers_the_same_now_and_later(
    app: Piecework, make: Callable[[], Any], answer: Any
) -> None:
    made = make()
    assert made.call() == answer
    assert later(app, made.call) == answer


def test_a_child_runs_as_itself(app: Piecework) -> None:
    job = app.later(Child("x").call, 2)
    assert job.task == "object_shapes.Child.call"
    drain(app)
    assert job.result(timeout=0) == ["child", "x", 2, False]
    assert SAID == [("Child", "x", 2, False)]


def test_a_method_that_a_child_inherits_is_its_own(app: Piecework) -> None:
    assert later(app, Child("x").wait, 1) == ["x", 1]


def test_classmethods_are_called_on_the_right_class(app: Piecework) -> None:
    assert later(app, SomeProcess.named, 1) == "SomeProcess 1"
    assert later(app, Child.named, 2) == "Child 2"
    assert later(app, Child("x").named, 3) == "Child 3"


def test_staticmethods_need_no_object(app: Piecework) -> None:
    assert later(app, SomeProcess.double, 4) == 8
    assert later(app, Child("x").double, n=5) == 10
    assert later(app, SomeProcess.triple, 5) == 15
    assert app.later(SomeProcess.double, 1).record().args == '{"n":1}'


def test_one_class_is_a_task_of_two_apps(app: Piecework, tmp_path: Path) -> None:
    other = Piecework(f"sqlite:///{tmp_path}/other.db?synchronous=normal")
    other.task(name="theirs")(SomeProcess)
    process = SomeProcess("a")
    assert app.later(process.call).task == "object_shapes.SomeProcess.call"
    assert other.later(process.call).task == "theirs.call"
    other.close()


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def test_a_split_of_objects_composes_the_same_now_and_later(app: Piecework) -> None:
    @app.split
    def whole(n: int) -> Iterator[Piece[Any]]:
        for m in range(n):
            yield app.piece(SomeProcess(f"p{m}").call, m)
        yield app.using(key="last").piece(Child("c").wait, n)
        yield app.piece(SomeProcess.triple, 2)

    @whole.compose
    def join(pieces: Pieces[Any], n: int) -> list[Any]:
        return list(pieces.results())

    answer = [["p0", 0, False], ["p1", 1, False], ["c", 2], 6]
    assert whole(2) == answer
    assert later(app, whole, 2) == answer


def test_a_tuple_arrives_now_as_it_does_from_a_worker(app: Piecework) -> None:
    """Pieces that run now pass through the same codec; a tuple that would arrive as a list is refused in both."""

    @app.split
    def whole() -> Iterator[Piece[Any]]:
        yield app.piece(Typed(UUID(int=1), datetime(2024, 1, 1, tzinfo=UTC), ((1, "a"),)).call)

    @whole.compose
    def join(pieces: Pieces[Any]) -> list[Any]:
        return list(pieces.results())

    assert whole() == later(app, whole)
    with pytest.raises(TypeError, match=r"a tuple and would arrive as a list"):
        app.piece(Everything((1, 2), 1, c=1).call)


def test_a_batch_takes_methods(app: Piecework) -> None:
    with app.batch() as batch:
        batch.add(app.piece(SomeProcess("a").call))
        batch.add(app.piece(SomeProcess.double, 1))
    drain(app)
    assert batch.record is not None
    assert batch.record.completed == 2


# ── transactions ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shelf", ["sqlite"])
def test_a_job_lives_and_dies_with_the_callers_transaction(app: Piecework, tmp_path: Path) -> None:
    app.store.migrate()
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as con:
        con.execute("BEGIN IMMEDIATE")
        app.using(within=con).later(SomeProcess("gone").call)
        con.execute("ROLLBACK")
        assert app.jobs.where().count() == 0
        con.execute("BEGIN IMMEDIATE")
        app.using(within=con).later(SomeProcess("kept").call)
        assert app.jobs.where().count() == 0
        con.execute("COMMIT")
    drain(app)
    assert SAID == [("SomeProcess", "kept", 0, False)]


# ── what a class looks like afterwards ───────────────────────────────────────────────────────────


def test_a_registered_class_shows_the_signature_that_was_written(app: Piecework) -> None:
    assert (
        str(inspect.signature(Everything))
        == "(a: 'Any', /, b: 'int', *rest: 'int', c: 'Any', d: 'Any' = 4, **kw: 'Any')"
    )
    assert list(inspect.signature(OtherArguments).parameters) == ["first", "second"]
    assert list(inspect.signature(Pair).parameters) == ["left", "right"]
    assert str(inspect.signature(Nothing)) == "()"


def test_the_registry_tells_its_classes_and_their_methods(tmp_path: Path) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db")
    app.task(SomeProcess)
    assert len(app.registry) == 1
    public = ["call", "double", "fails", "named", "soon", "told", "triple", "wait", "where"]
    assert [spec.name.removeprefix("object_shapes.SomeProcess.") for spec in app.registry] == public
