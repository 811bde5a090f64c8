"""Declaring operations: what becomes of what is written, and that every mistake is refused where it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pydantic
import pytest

from piecework import Piece, Pieces, Piecework, Step, branch, fixed, step, wait_for
from piecework.errors import BadArguments, BadOption, DuplicateTask, UsageError
from piecework.job import OnFailure, Wait


@pytest.fixture
def app() -> Piecework:
    return Piecework("sqlite:///nowhere/jobs.db")  # declaring opens nothing


def charge(step: Step[Any]) -> None: ...


def email(step: Step[Any]) -> None: ...


def refund(step: Step[Any]) -> None: ...


async def call_home(step: Step[Any]) -> None: ...


class SetUp:
    def call(self, step: Step[Any]) -> None: ...


class Static:
    @staticmethod
    async def call(step: Step[Any]) -> None: ...


class OfClass:
    @classmethod
    def call(cls, step: Step[Any]) -> None: ...


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────


def test_branches_are_keywords_or_a_dict_or_say_where_they_go_on(app: Piecework) -> None:
    made = app.operation(
        "f", main=[charge, email], red=branch(SetUp, then="email"), branches={"odd name": (call_home,)}
    )
    assert made.plan.branches == {"main": ("charge", "email"), "red": ("SetUp",), "odd name": ("call_home",)}
    assert made.plan.then == {"red": "main/email"}


def test_every_kind_of_step_is_told_apart(app: Piecework) -> None:
    @app.task
    def square(n: int) -> int:
        return n * n

    @app.split
    def many(n: int) -> Iterator[Piece[int]]:
        yield square.piece(n)

    def pieces(step: Step[Any]) -> Iterator[Piece[int]]:
        yield square.piece(1)

    main = [charge, call_home, SetUp, Static, OfClass, square, many, pieces, wait_for("ok")]
    steps = app.operation("f", main=main)._operation.steps
    assert {name: made.kind for name, made in steps.items()} == {
        "charge": "plain",
        "call_home": "async",
        "SetUp": "plain",
        "Static": "async",
        "OfClass": "plain",
        "square": "task",
        "many": "task",
        "pieces": "pieces",
        "ok": "wait",
    }


def test_a_step_keeps_what_it_says_and_leaves_the_rest_to_the_operation(app: Piecework) -> None:
    soon = datetime.now(UTC)
    made = app.operation(
        "f",
        main=[
            step(charge, attempts=3, queue="slow", retry=5, delay=timedelta(minutes=1), undo=step(refund, attempts=2)),
            step(email, at=soon, name="mail", timeout=None),
            wait_for("ok", timeout=9, otherwise="red", into="yes"),
        ],
        red=[charge_again := step(charge, name="again")],
        attempts=7,
    )
    steps = made._operation.steps
    assert steps["charge"].options == {"attempts": 3, "queue": "slow", "retry": fixed(5)}
    assert steps["charge"].delay == 60
    assert steps["charge"].undo is not None
    assert steps["charge"].undo.options == {"attempts": 2}
    assert steps["mail"].at == soon.timestamp()
    assert steps["mail"].options == {"timeout": None}
    assert steps["ok"].wait == Wait("ok", 9.0, "yes", "red/again", is_step=True)
    assert made._operation.options.attempts == 7
    assert made._operation.undoes
    assert made._operation.names(charge_again) == "again"


def test_a_step_may_stand_in_several_branches(app: Piecework) -> None:
    late = step(email, delay=5)
    made = app.operation("f", main=[SetUp, charge, late], red=[charge, SetUp, late])
    assert set(made._operation.steps) == {"SetUp", "charge", "email"}


def test_one_declaration_may_serve_several_operations(app: Piecework) -> None:
    """Each of them has its own branches: what one makes of the step says nothing to the other."""
    approval = wait_for("approval", timeout=5, otherwise="late")
    one = app.operation("one", main=[approval], late=[charge])
    other = app.operation("other", main=[email, approval], late=[email])
    assert one._operation.steps["approval"].wait == Wait("approval", 5.0, "approval", "late/charge", is_step=True)
    assert other._operation.steps["approval"].wait == Wait("approval", 5.0, "approval", "late/email", is_step=True)


def test_a_tasks_own_options_hold_for_its_step(app: Piecework) -> None:
    @app.task(queue="mail", attempts=3)
    def send() -> None: ...

    steps = app.operation("f", main=[step(send, attempts=4)], attempts=9, queue="orders")._operation.steps
    assert steps["send"].options == {"queue": "mail", "attempts": 4}


def test_a_process_is_for_plain_steps_only_where_the_operation_asks_for_it(app: Piecework) -> None:
    steps = app.operation("f", main=[charge, call_home, wait_for("ok")], pool="process")._operation.steps
    assert {name: made.options.get("pool") for name, made in steps.items()} == {
        "charge": None,
        "call_home": "thread",
        "ok": "thread",
    }


def test_pieces_of_a_step_are_joined_and_may_fail_as_those_of_a_split(app: Piecework) -> None:
    def pieces(step: Step[Any]) -> Iterator[Piece[Any]]:
        yield from ()

    def join(pieces: Pieces[Any], step: Step[Any]) -> int:
        return len(pieces)

    made = app.operation("f", main=[step(pieces, compose=join, on_failure="compose", into="n")])._operation.steps[
        "pieces"
    ]
    assert made.compose is not None
    assert (made.compose.function, made.on_failure, made.into) == (join, OnFailure.COMPOSE, "n")


def test_a_step_is_known_by_its_old_name_and_a_retired_one_by_its_own(app: Piecework) -> None:
    spec = app.operation("f", main=[step(charge, aliases=["pay"])], retired=[email], aliases=["g"])._operation
    assert spec.step("pay") is spec.steps["charge"]
    assert spec.step("email") is not None
    assert spec.plan.steps() == ["charge"]
    assert "g" in app.registry


def test_the_limit_of_steps_grows_with_the_plan(app: Piecework) -> None:
    many = [step(charge, name=f"s{n}") for n in range(200)]
    assert app.operation("f", main=[charge])._operation.max_steps == 1000
    assert app.operation("g", main=many)._operation.max_steps == 2000
    assert app.operation("h", main=[charge], max_steps=3)._operation.max_steps == 3


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


def no_argument() -> None: ...


def two_arguments(step: Any, more: Any) -> None: ...


async def async_pieces(step: Any) -> Any:
    yield 1


class Needs:
    def __init__(self, id: int) -> None: ...

    def call(self, step: Any) -> None: ...


class WithoutCall: ...


def a_generator(step: Any) -> Iterator[Any]:
    yield 1


def renamed(name: str) -> Callable[[Any], None]:
    def function(step: Any) -> None: ...

    function.__name__ = name
    return function


WRONG: dict[str, tuple[Callable[[Piecework], object], str]] = {
    "no main": (lambda app: app.operation("f", red=[charge]), "no main branch, with which it begins; say main="),
    "main of None": (lambda app: app.operation("f", main=None), "no main branch"),
    "an empty main": (lambda app: app.operation("f", main=[]), "the branch 'main' has no steps"),
    "an empty branch": (lambda app: app.operation("f", main=[charge], red=[]), "the branch 'red' has no steps"),
    "a branch of None": (
        lambda app: app.operation("f", main=[charge], red=None),
        "unknown option 'red'.*a branch is a list of steps, not None",
    ),
    "branches of None inside": (
        lambda app: app.operation("f", main=[charge], branches={"red": None}),
        "the branch 'red' must be a list of steps",
    ),
    "a bare list": (lambda app: app.operation("f", [charge, email]), "never bare; say main="),
    "a function for main": (lambda app: app.operation("f", main=charge), "'main' must be a list of steps"),
    "a list in branch()": (lambda app: app.operation("f", main=branch([charge])), "and no list of them"),
    "a slash in a step": (lambda app: app.operation("f", main=[step(charge, name="a/b")]), "without '/'"),
    "a slash in a branch": (lambda app: app.operation("f", main=[charge], branches={"a/b": [email]}), "without '/'"),
    "a step called undo": (lambda app: app.operation("f", main=[renamed("undo")]), "cannot be 'undo'"),
    "a branch called undone": (lambda app: app.operation("f", main=[charge], undone=[email]), "cannot be 'undone'"),
    "no name for a step": (lambda app: app.operation("f", main=[step(charge, name="")]), "1 to 100 printable"),
    "two functions of one name": (
        lambda app: app.operation("f", main=[charge], red=[renamed("charge")]),
        "two steps are called 'charge'; give one of them a name",
    ),
    "one function in two ways": (
        lambda app: app.operation("f", main=[charge], red=[step(charge, attempts=2)]),
        "declared in two ways; make it once",
    ),
    "a step twice in a branch": (
        lambda app: app.operation("f", main=[charge, email, charge]),
        "the branch 'main' has the step 'charge' twice",
    ),
    "a lambda": (lambda app: app.operation("f", main=[lambda step: None]), "a lambda has no name"),
    "a string": (lambda app: app.operation("f", main=["charge"]), "step 1 of the branch 'main': 'charge' is no step"),
    "a list for a step": (lambda app: app.operation("f", main=[[charge]]), "is no step"),
    "None for a step": (lambda app: app.operation("f", main=[None]), "None is no step"),
    "a function without the step": (lambda app: app.operation("f", main=[no_argument]), "must take the step"),
    "a function of too much": (lambda app: app.operation("f", main=[two_arguments]), "must take the step"),
    "an async generator": (lambda app: app.operation("f", main=[async_pieces]), "is an async generator"),
    "a class that needs arguments": (lambda app: app.operation("f", main=[Needs]), "Needs must take nothing"),
    "a class without call": (lambda app: app.operation("f", main=[WithoutCall]), r"has no method call\(step\)"),
    "an unknown option": (lambda app: app.operation("f", main=[charge], quueue="x"), "did you mean 'queue'"),
    "an unknown option of a step": (
        lambda app: app.operation("f", main=[step(charge, atempts=3)]),  # type: ignore[call-arg]
        "unknown option 'atempts'; did you mean 'attempts'",
    ),
    "garbage for an option": (lambda app: app.operation("f", main=[charge], attempts="many"), "attempts must be"),
    "a list for an option": (
        lambda app: app.operation("f", main=[charge], queue=[email]),
        "queue must be a queue name",
    ),
    "garbage for a time": (lambda app: app.operation("f", main=[step(charge, at="soon")]), "at must be an aware"),
    "a time without a zone": (
        lambda app: app.operation("f", main=[step(charge, at=datetime(2030, 1, 1))]),
        "at must be an aware datetime",
    ),
    "a delay of NaN": (
        lambda app: app.operation("f", main=[step(charge, delay=float("nan"))]),
        "delay must be seconds",
    ),
    "at and delay": (
        lambda app: app.operation("f", main=[step(charge, delay=1, at=datetime.now(UTC))]),
        "at= or delay=, not both",
    ),
    "then to nowhere": (
        lambda app: app.operation("f", main=[charge, email], red=branch(SetUp, then="emial")),
        "then of 'red': no branch or step 'emial'; did you mean 'email'",
    ),
    "then of a number": (lambda app: branch(charge, then=3), "then must be the name"),
    "otherwise to nowhere": (
        lambda app: app.operation("f", main=[wait_for("ok", timeout=1, otherwise="expried")], expired=[charge]),
        "otherwise of 'ok': no branch or step 'expried'; did you mean 'expired'",
    ),
    "otherwise without a timeout": (lambda app: wait_for("ok", otherwise="red"), "say timeout=, too"),
    "a wait for nothing": (lambda app: wait_for(""), "1 to 200 characters"),
    "a wait as an undo": (lambda app: step(charge, undo=wait_for("ok")), "its undo cannot be a wait"),
    "pieces as an undo": (lambda app: step(charge, undo=a_generator), "its undo 'a_generator' yields pieces"),
    "an undo of an undo": (lambda app: step(charge, undo=step(email, undo=refund)), "can have no undo"),
    "a process for pieces": (lambda app: step(a_generator, pool="process"), "yields pieces and talks to the store"),
    "a process for a coroutine": (lambda app: step(call_home, pool="process"), "runs on the event loop"),
    "compose for a function": (lambda app: step(charge, compose=two_arguments), "compose= is for a step that yields"),
    "compose of too little": (lambda app: step(a_generator, compose=charge), "must take the pieces and the step"),
    "into for a function": (lambda app: step(charge, into="x"), "into= is for a task"),
    "on_failure of garbage": (lambda app: step(a_generator, on_failure="explode"), "must be one of fail_fast"),  # type: ignore[arg-type]
    "aliases in a string": (lambda app: step(charge, aliases="pay"), "must be a list of the names"),
    "an alias that is a step": (
        lambda app: app.operation("f", main=[step(charge, aliases=["email"]), email]),
        "it is another step's name",
    ),
    "step of a step": (lambda app: step(step(charge), attempts=2), "is no step"),
    "an operation as a step": (
        lambda app: app.operation("f", main=[app.operation("g", main=[charge])]),
        "g is an operation; start it in a step",
    ),
    "max_steps of nothing": (lambda app: app.operation("f", main=[charge], max_steps=0), "max_steps must be a whole"),
    "a state that is no class of fields": (
        lambda app: app.operation("f", main=[charge], state=dict),
        "state must be a",
    ),
    "a name that cannot be stored": (
        lambda app: app.operation("a b", main=[charge]),
        "the operation name 'a b' must be",
    ),
    "retired in no list": (lambda app: app.operation("f", main=[charge], retired=email), "retired must be a list"),  # type: ignore[arg-type]
    "a branch given twice": (
        lambda app: app.operation("f", main=[charge], red=[email], branches={"red": [email]}),
        "the branch 'red' is given twice",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_where_it_is_made_with_what_to_do(app: Piecework, case: str) -> None:
    make, said = WRONG[case]
    with pytest.raises(UsageError, match=said):
        make(app)
    assert "f" not in app.registry


def test_an_operation_is_declared_once(app: Piecework) -> None:
    app.operation("f", main=[charge])
    with pytest.raises(DuplicateTask, match="'f' is declared already"):
        app.operation("f", main=[charge])

    @app.task(name="t")
    def task() -> None: ...

    with pytest.raises(DuplicateTask, match="'t' is declared already"):
        app.operation("t", main=[charge])


def test_a_task_is_not_given_with_options_of_a_call(app: Piecework) -> None:
    @app.task
    def send() -> None: ...

    with pytest.raises(BadOption, match=r"send.using\(…\) is for calls; say step\(send, queue=…\)"):
        app.operation("f", main=[send.using(queue="x")])


def test_a_function_that_is_two_steps_is_not_jumped_to_by_itself(app: Piecework) -> None:
    spec = app.operation("f", main=[step(charge, name="one"), step(charge, name="other")])._operation
    with pytest.raises(BadArguments, match="is the steps one and other; name the one that you mean"):
        spec.names(charge)


# ── what an operation starts with ────────────────────────────────────────────────────────────────


@dataclass
class Data:
    subscription_id: int
    when: datetime | None = None
    tags: tuple[str, ...] = ()


class Struct(msgspec.Struct):
    subscription_id: int
    when: datetime | None = None
    tags: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    subscription_id: int
    when: datetime | None = None
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize("state", [Data, Struct, Model])
def test_a_declared_state_is_given_whole_or_by_its_fields_and_comes_back(app: Piecework, state: Any) -> None:
    seen: list[Any] = []

    def look(step: Step[Any]) -> None:
        seen.append(step.state)
        step.state.subscription_id += 1

    f = app.operation("f", main=[look], state=state)
    when = datetime(2030, 1, 1, tzinfo=UTC)
    given = state(subscription_id=7, when=when, tags=("a",))
    after = state(subscription_id=8, when=when, tags=("a",))
    assert f(given) == after
    assert f(subscription_id=7, when=when, tags=("a",)) == after
    assert type(seen[0]) is state
    assert given.subscription_id == 7  # a step works on what was stored, and not on what was given


@pytest.mark.parametrize("state", [Data, Struct, Model])
@pytest.mark.parametrize("given", [{}, {"subscription_id": "x"}, {"subscription_id": 7, "when": "soon"}])
def test_globals_that_do_not_make_the_state_are_refused(app: Piecework, state: Any, given: dict[str, Any]) -> None:
    f = app.operation("f", main=[charge], state=state)
    with pytest.raises(BadArguments):
        f.piece(**given)


class AsList(msgspec.Struct, array_like=True):
    a: int


def test_a_state_without_names_is_refused(app: Piecework) -> None:
    with pytest.raises(BadOption, match="AsList is array_like"):
        app.operation("f", main=[charge], state=AsList)


class Renamed(msgspec.Struct, rename="camel"):
    user_id: int = 0


def test_a_state_that_renames_its_fields_is_refused(app: Piecework) -> None:
    """`where(user_id=7)` would not find what is stored as userId."""
    with pytest.raises(BadOption, match="Renamed renames them"):
        app.operation("f", main=[charge], state=Renamed)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": float("nan")}, "NaN|nan"),
        ({"x": float("inf")}, "inf"),
        ({"x": object()}, "object"),
        ({"x": datetime.now(UTC)}, "datetime"),
        ({"x": (1, 2)}, "tuple"),
        ({"x": {1: 2}}, "keys"),
        ({"x": {"y": [1, {2}]}}, "set"),
        ({"": 1}, "1 to 200 characters"),
        ({"a\0b": 1}, "without NUL"),
        ({"a\ud800": 1}, "no text can carry"),
        ({"x": "\ud800"}, "x"),
        ({"x": "y" * 2_000_000}, "the limit is"),
    ],
)
def test_what_cannot_be_a_global_is_refused_by_name(app: Piecework, given: dict[str, Any], said: str) -> None:
    f = app.operation("f", main=[charge])
    with pytest.raises(BadArguments, match=said):
        f.piece(**given)


def test_globals_are_given_by_name_or_as_one_dict(app: Piecework) -> None:
    f = app.operation("f", main=[charge])
    assert f({"odd name": 1}, n=2) == {"odd name": 1, "n": 2}
    for wrong in [(1,), ([1],), ({"a": 1}, {"b": 2})]:
        with pytest.raises(BadArguments, match="globals are given by name"):
            f(*wrong)
    with pytest.raises(BadArguments, match="the global 'n' is given twice"):
        f({"n": 1}, n=2)
