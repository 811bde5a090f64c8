"""What cannot run later is refused at the call: nothing is stored, and the message says what to do."""

from __future__ import annotations

import copy
import enum
import functools
import io
import pickle
import re
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import msgspec
import pydantic
import pytest
from object_shapes import Abstract, Child, Everything, Holder, Nothing, Slotted, SomeProcess, make_local

from piecework import Piecework
from piecework.errors import BadArguments, BadOption, DuplicateTask, NotSerializable, TooLarge, UnknownTask, UsageError


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here happens before a store sees it


@pytest.fixture
def app(app: Piecework) -> Iterator[Piecework]:
    """Whatever a test tries with this app, nothing may be stored."""
    for kind in (SomeProcess, Holder, Slotted, Everything, OfMeta):
        app.task(kind)
    yield app
    assert app.jobs.where().count() == 0


class Unregistered:
    def call(self) -> None: ...


class Early:
    def call(self) -> None: ...


class Meta(type):
    def create(cls, n: int) -> int:
        return n


class OfMeta(metaclass=Meta):
    @functools.singledispatchmethod
    def by_type(self, thing: Any) -> str:
        return "thing"


class ChangesArguments(type):
    def __call__(cls, n: int) -> Any:
        return super().__call__(2 * n)


class Changed(metaclass=ChangesArguments):
    def __init__(self, n: int) -> None: ...


class ChangedBelow(SomeProcess, metaclass=ChangesArguments): ...


def unwrapped(function: Callable[[], None]) -> Callable[[], None]:
    def wrapper() -> None:
        function()

    return wrapper


@unwrapped
def decorated() -> None: ...


class CallableObject:
    def __call__(self) -> None: ...


def module_level() -> None: ...


class Patched(SomeProcess):
    """An object gets a method of its own."""


def patched() -> Any:
    made: Any = Patched("a")
    made.extra = types.MethodType(lambda self: None, made)
    return made


def own_call() -> Any:
    made: Any = Patched("a")
    made.call = types.MethodType(lambda self: None, made)
    return made


def local_function() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: SomeProcess("a")._secret, BadArguments, r"SomeProcess\._secret cannot run later: it is private; give it a public name"),
    (lambda: SomeProcess("a").__init__, BadArguments, r"SomeProcess\.__init__ cannot run later: it is private"),
    (lambda: SomeProcess("a").__repr__, UnknownTask, "not written in Python"),
    (lambda: SomeProcess("a").some_id, BadArguments, r"'a' is a str, and no method .*app\.later\(process\.call"),
    (lambda: SomeProcess("a").prop, BadArguments, "is a str, and no method"),
    (lambda: SomeProcess("a").numbers, BadArguments, r"SomeProcess\.numbers .* is a generator.*@app\.split"),
    (lambda: SomeProcess("a").stream, BadArguments, r"SomeProcess\.stream .* is a generator"),
    (lambda: SomeProcess.lent, UnknownTask, "len is not written in Python"),
    (lambda: SomeProcess.call, BadArguments, r"SomeProcess\.call is bound to no object; .* app\.later\(SomeProcess\(…\)\.call"),
    (lambda: SomeProcess, BadArguments, "SomeProcess is a class, and no method"),
    (lambda: SomeProcess("a"), BadArguments, "is a SomeProcess, and no method"),
    (lambda: super(Child, Child("a")).call, BadArguments, r"SomeProcess\.call is overridden in Child, .* would run Child\.call"),
    (lambda: patched().extra, BadArguments, "was put on this object.*define the method in the class"),
    (lambda: own_call().call, BadArguments, "was put on this object"),
    (lambda: lambda: 1, UnknownTask, "a lambda has no name"),
    (local_function, UnknownTask, "inner is defined inside a function, .* move it to its module's top level"),
    (lambda: make_local()(1).call, UnknownTask, "class .*Local is not registered .*put @app.task above it"),
    (lambda: Unregistered().call, UnknownTask, "the class Unregistered is not registered with this app; put @app.task above it"),
    (lambda: module_level, UnknownTask, "the function module_level is not registered with this app; put @app.task above it"),
    (lambda: OfMeta.create, BadArguments, "OfMeta.create is a method of the metaclass Meta, .* as a @classmethod"),
    (lambda: OfMeta().by_type, BadArguments, r"OfMeta\.by_type cannot run later: it is a singledispatchmethod.* from a plain method"),
    (lambda: ChangedBelow("a").call, BadArguments, r"ChangedBelow has a metaclass \(ChangesArguments\) with a __call__ of its own"),
    (lambda: decorated, UnknownTask, r"wrapper is defined inside a function.*put functools\.wraps into the decorator"),
    (lambda: functools.partial(SomeProcess("a").call, 1), BadArguments, "a partial has no name"),
    (lambda: print, UnknownTask, "print is not written in Python"),
    (lambda: "text".upper, UnknownTask, "not written in Python"),
    (lambda: CallableObject(), UnknownTask, "a callable CallableObject is no method"),
    (lambda: None, BadArguments, "None is a NoneType, and no method"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "error", "said"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_no_worker_could_find_or_run_is_refused(
    app: Piecework, given: Callable[[], Any], error: type[Exception], said: str
) -> None:
    target = given()
    with pytest.raises(error, match=said) as refused:
        app.later(target)
    assert isinstance(refused.value, UsageError)
    with pytest.raises(error, match=said):
        app.piece(target)
    with pytest.raises(error, match=said):
        app.using(delay=1).later(target)


async def test_alater_refuses_the_same(app: Piecework) -> None:
    with pytest.raises(BadArguments, match="is private"):
        await app.alater(SomeProcess("a")._secret)


def test_a_method_that_does_not_exist_is_pythons_own_error(app: Piecework) -> None:
    with pytest.raises(AttributeError, match="nope"):
        app.later(SomeProcess("a").nope)  # type: ignore[attr-defined]


def test_a_registered_class_inside_a_function_is_refused_at_the_call(app: Piecework) -> None:
    local = app.task(make_local())
    with pytest.raises(UnknownTask, match=r"Local is defined inside a function, where no worker can find it; move it"):
        app.later(local(1).call)


def test_a_child_inside_a_function_is_refused_though_its_base_is_registered(app: Piecework) -> None:
    class Local(SomeProcess): ...

    with pytest.raises(UnknownTask, match="inside a function"):
        app.later(Local("a").call)


def test_the_function_under_a_task_is_told_from_the_task(app: Piecework) -> None:
    task = app.task(module_level)
    with pytest.raises(BadArguments, match="is the function under a task; give the task itself"):
        app.later(task.__wrapped__)


def test_a_class_that_was_made_anew_after_it_was_registered_is_told(app: Piecework) -> None:
    app.task(First)
    made = Second(1)
    with pytest.raises(UnknownTask, match=r"put @app.task above it, and above .*@dataclass\(slots=True\)"):
        app.later(made.call)


class First:
    x: int

    def call(self) -> None: ...


Second = dataclass(slots=True)(First)


# ── objects of which nothing is known ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "made",
    [
        lambda: copy.copy(SomeProcess("a")),
        lambda: copy.deepcopy(SomeProcess("a")),
        lambda: pickle.loads(pickle.dumps(SomeProcess("a"))),
        lambda: SomeProcess.__new__(SomeProcess),
        lambda: object.__new__(SomeProcess),
        lambda: copy.copy(Slotted(1)),
    ],
)
def test_an_object_that_was_not_constructed_is_refused(app: Piecework, made: Callable[[], Any]) -> None:
    with pytest.raises(BadArguments, match=r"not known which arguments .* was constructed with .*construct it with"):
        app.later(made().call)


@pytest.mark.parametrize("shelf", ["sqlite"])  # once: its class stays registered
def test_an_object_made_before_its_class_was_registered_is_refused(app: Piecework) -> None:
    early = Early()
    app.task(Early)
    with pytest.raises(BadArguments, match="made before Early was registered"):
        app.later(early.call)


# ── arguments that cannot travel ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (lambda: io.TextIOWrapper(io.BytesIO()), "a TextIOWrapper cannot travel"),
        (threading.Lock, "a lock cannot travel"),
        (lambda: lambda: 1, "a function cannot travel"),
        (lambda: [1, threading.Lock()], r"\[1\] cannot travel: a lock"),
        (lambda: Unregistered(), "a Unregistered cannot travel"),
        (lambda: (1, 2), "is a tuple and would arrive as a list"),
        (lambda: float("nan"), "is nan"),
    ],
)
def test_a_constructors_argument_that_cannot_travel_is_named(
    app: Piecework, thing: Callable[[], Any], said: str
) -> None:
    value = thing()
    with pytest.raises(TypeError, match=rf"object_shapes\.Holder: argument thing.*{said}"):
        app.later(Holder(value).call)
    with pytest.raises(TypeError, match=rf"object_shapes\.Holder: argument other.*{said}"):
        app.later(Holder(1, other=value).call)
    if hasattr(value, "close"):
        value.close()


class Forgets:
    """Does not keep what it is given."""

    def __init__(self, thing: Any) -> None: ...

    def call(self) -> None: ...


def test_an_argument_that_is_gone_is_still_told_to_be_the_reason(app: Piecework) -> None:
    """What cannot travel is not kept alive by the object's record; the message comes all the same."""
    app.task(Forgets)
    with pytest.raises(NotSerializable, match="argument thing cannot travel: a Unregistered cannot travel"):
        app.later(Forgets(Unregistered()).call)


def test_arguments_of_the_method_that_do_not_fit_are_refused(app: Piecework) -> None:
    with pytest.raises(BadArguments, match=r"SomeProcess\.call\(n: 'int' = 0.*too many positional"):
        app.later(SomeProcess("a").call, 1, 2)  # type: ignore[call-arg]
    with pytest.raises(BadArguments, match="Expected `int`, got `str`"):
        app.later(SomeProcess("a").call, "1")  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="nota"):
        app.later(SomeProcess("a").call, nota=1)  # type: ignore[call-arg]


def test_arguments_of_the_constructor_that_do_not_fit_its_annotations_are_refused(app: Piecework) -> None:
    with pytest.raises(
        BadArguments, match=r"object_shapes\.SomeProcess: Expected `str`, got `int` - at `argument some_id`"
    ):
        app.later(SomeProcess(7).call)  # type: ignore[arg-type]


def test_object_and_arguments_are_bounded_together(tmp_path: Path) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db", max_payload=1000)
    app.task(Everything)
    app.task(SomeProcess)
    with pytest.raises(TooLarge, match="1,000"):
        app.later(Everything("x" * 1000, 1, c=1).call)
    with pytest.raises(TooLarge, match=r"SomeProcess\.told and its object would take 1,1\d\d bytes"):
        app.later(SomeProcess("x" * 550).told, "x" * 500, 1, "", "", "")
    assert app.later(SomeProcess("x" * 400).told, "x" * 400, 1, "", "", "").id


# ── classes that cannot be registered ────────────────────────────────────────────────────────────


class Colour(enum.Enum):
    RED = "red"


class Struct(msgspec.Struct):
    x: int


class Model(pydantic.BaseModel):
    x: int


class Proto(Protocol):
    def call(self) -> None: ...


class Dict(TypedDict):
    x: int


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Struct, "is a msgspec.Struct"),
        (Model, "is a pydantic model"),
        (Proto, "has none of its own"),
        (Dict, "has none of its own"),
        (Colour, "is an enum"),
        (Changed, r"has a metaclass \(ChangesArguments\) with a __call__ of its own.*register a plain class"),
        (int, "constructor cannot be watched"),
        (re.Pattern, "constructor cannot be watched"),
    ],
)
def test_a_class_that_cannot_be_watched_is_refused_when_it_is_registered(app: Piecework, kind: Any, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        app.task(kind)


def test_a_method_of_the_metaclass_is_reached_by_no_name(app: Piecework) -> None:
    assert f"{OfMeta.__module__}.OfMeta.create" not in app.registry


def test_two_classes_under_one_name_are_refused(app: Piecework) -> None:
    app.task(name="taken")(Nothing)
    with pytest.raises(DuplicateTask, match="two classes are registered as 'taken'"):
        app.task(name="taken")(Unregistered)
    app.task(name="taken")(Nothing)  # the same once more changes nothing


def test_a_task_and_a_method_under_one_name_are_refused(app: Piecework) -> None:
    with pytest.raises(DuplicateTask, match=r"SomeProcess\.call"):
        app.task(name="object_shapes.SomeProcess.call")(module_level)
    app.task(name="shapes.Nothing.call")(module_level)
    with pytest.raises(DuplicateTask, match=r"'shapes\.Nothing\.call'"):
        app.task(name="shapes.Nothing")(Nothing)


@pytest.mark.parametrize(
    ("aliases", "error", "said"),
    [
        ("old", BadOption, "must be a list"),
        (["two words"], BadOption, "two words"),
        ([7], BadOption, "7"),
        (["object_shapes.SomeProcess"], DuplicateTask, "is the name of a task already"),
        (["new"], DuplicateTask, "is the name of a task already"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(app: Piecework, aliases: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        app.task(name="new", aliases=aliases)(Abstract)
