"""What objects were constructed with is known for as long as they live, and their classes behave as before."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import BadOption
from piecework.recording import _recorder_of, constructor, given_to, watch

T = TypeVar("T")


class Point:
    def __init__(self, x: Any, y: Any = 0) -> None:
        self.x, self.y = x, y


class Slots:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


class Pair(NamedTuple):
    left: Any
    right: Any = 0


class Base(abc.ABC):
    @abc.abstractmethod
    def call(self) -> None: ...


class Alone:
    """Neither `__init__` nor `__new__`."""


class WithNew:
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)


class BadNew:
    def __new__(cls, x: int) -> Any:
        return super().__new__(cls, x)  # type: ignore[call-arg]


@dataclass(frozen=True, order=True)
class Data:
    x: int
    y: int = 0


@dataclass(slots=True)
class SlotData:
    x: int


def watched(kind: Any) -> Any:
    watch(kind)
    return kind


def kept(kind: type) -> int:
    recorder = _recorder_of(kind)
    return 0 if recorder is None else len(recorder._kept)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.integers()),
    st.dictionaries(st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1), st.text()),
)
def test_arguments_are_kept_as_they_were_bound(args: list[int], kwargs: dict[str, str]) -> None:
    class Any_:
        def __init__(self, *args: int, **kwargs: str) -> None: ...

    made = watched(Any_)(*args, **kwargs)
    assert given_to(made) == (tuple(args), kwargs)


@pytest.mark.parametrize("kind", [Point, Slots, Pair, Data, SlotData])
def test_a_record_goes_with_its_object(kind: Any) -> None:
    watch(kind)
    made = kind(1)
    assert given_to(made) == ((1,), {})
    before = kept(kind)
    del made
    gc.collect()
    assert kept(kind) == before - 1


@pytest.mark.parametrize("kind", [Point, Slots, Pair])
def test_nothing_is_left_of_many_objects(kind: Any) -> None:
    watch(kind)
    for n in range(1000):
        kind(n)
    gc.collect()
    assert kept(kind) == 0


def test_an_object_that_its_own_argument_holds_can_go() -> None:
    class Parent:
        def __init__(self) -> None:
            self.children: list[Any] = []

    class Child:
        def __init__(self, parent: Parent) -> None:
            parent.children.append(self)

    watch(Child)
    parent = Parent()
    Child(parent)
    gone = weakref.ref(parent)
    del parent
    gc.collect()
    assert gone() is None
    assert kept(Child) == 0


def test_an_address_that_is_used_again_brings_no_old_record() -> None:
    watch(Slots)
    for n in range(100):
        made = Slots(n)
        del made
        empty = Slots.__new__(Slots)
        assert given_to(empty) is None
        del empty


@pytest.mark.parametrize("kind", [Point, Slots])
def test_an_init_that_is_called_again_does_not_change_what_is_kept(kind: Any) -> None:
    made = watched(kind)(1)
    made.__init__(2)
    assert (given_to(made), made.x) == (((1,), {}), 2)
    with pytest.raises(TypeError):
        made.__init__()
    assert given_to(made) == ((1,), {})


def test_the_outermost_construction_is_kept() -> None:
    class Twice:
        def __init__(self, x: int, whole: bool = True) -> None:
            self.x = x
            if whole:
                self.__init__(x + 1, whole=False)  # type: ignore[misc]

    watch(Twice)
    made = Twice(1)
    assert (given_to(made), made.x) == (((1,), {}), 2)


def test_a_construction_that_failed_is_not_in_the_way_of_the_next() -> None:
    made = watched(Point).__new__(Point)
    with pytest.raises(TypeError):
        made.__init__()
    made.__init__(5)
    assert given_to(made) == ((5,), {})


class SaysNothing:
    @property
    def __class__(self) -> Any:
        raise RuntimeError("working outside of context")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("asked for " + name)


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("compared")

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("asked for " + name)


class Strange(metaclass=Unhashable): ...


@pytest.mark.parametrize("wrapped", [lambda one: one, lambda one: [one], lambda one: {"a": [one]}, lambda one: (one,)])
@pytest.mark.parametrize("kind", [SaysNothing, Strange])
def test_an_argument_is_not_asked_for_anything(kind: Any, wrapped: Any) -> None:
    watch(Point)
    one = kind()
    made = Point(wrapped(one), y=one)
    known = given_to(made)
    assert known is not None
    assert known.kwargs["y"] is one


def test_containers_are_kept_as_they_were() -> None:
    watch(Point)
    inner: list[Any] = [1]
    given: dict[str, Any] = {"list": inner, "set": {1}, "bytes": bytearray(b"a"), "none": None}
    made = Point(given, y=inner)
    assert made.x is given
    inner.append(2)
    given["set"].add(2)
    given["bytes"].append(2)
    given["new"] = 1
    for _ in range(2):  # what is handed out is not the record itself
        known = given_to(made)
        assert known == (({"list": [1], "set": {1}, "bytes": b"a", "none": None},), {"y": [1]})
        known.args[0]["list"].append(7)


def test_containers_that_hold_themselves_or_are_deep_are_kept() -> None:
    watch(Point)
    round_: list[Any] = [1]
    round_ += [round_, round_]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    made = Point(round_, y=deep)
    round_.append(2)
    known = given_to(made)
    assert known is not None
    (found,) = known.args
    assert len(found) == 3
    assert found[1] is found[2] is found


def test_other_objects_within_containers_are_the_same_and_can_go() -> None:
    class Part: ...

    watch(Point)
    part, row = Part(), Data(1)
    made = Point([part, row])
    known = given_to(made)
    assert known is not None
    assert known.args[0][0] is part
    assert known.args[0][1] is row
    gone = weakref.ref(part)
    made.x = known = part = None
    gc.collect()
    assert gone() is None


def test_a_record_is_there_within_the_constructor_and_gone_when_it_raises() -> None:
    seen: list[Any] = []

    class Raises:
        def __init__(self, x: int) -> None:
            seen.append((self, given_to(self)))
            raise ValueError("no")

    watch(Raises)
    with pytest.raises(ValueError, match="no"):
        Raises(7)
    ((made, at_the_time),) = seen
    assert at_the_time == ((7,), {})
    assert given_to(made) is None


def test_each_class_of_a_family_keeps_its_own_arguments() -> None:
    class Parent:
        def __init__(self, x: int) -> None:
            self.x = x

    class Child(Parent):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a + b)

    class Grandchild(Child): ...

    @dataclass
    class DataChild(Parent):
        z: int

    watch(Parent)
    assert given_to(Child(1, b=2)) == ((1,), {"b": 2})
    assert given_to(Grandchild(1, 2)) == ((1, 2), {})
    assert given_to(DataChild(z=5)) == ((), {"z": 5})
    assert Grandchild(1, 2).x == 3


def test_mixins_are_called_in_their_order() -> None:
    called: list[str] = []

    class Left:
        def __init__(self, **kwargs: Any) -> None:
            called.append("left")
            super().__init__(**kwargs)

    class Right:
        def __init__(self, x: int) -> None:
            called.append("right")

    class Plain(Left, Right): ...

    class Below(Plain): ...

    class Mixin:
        def __init__(self, **kwargs: Any) -> None:
            called.append("mixin")
            super().__init__(**kwargs)

    class Last(Plain, Mixin): ...

    watch(Plain)
    watch(Right)
    assert given_to(Below(x=1)) == ((), {"x": 1})
    assert given_to(Plain(x=1)) == ((), {"x": 1})
    assert called == ["left", "right"] * 2
    called.clear()
    with pytest.raises(TypeError):
        Last(x=1, y=2)
    assert called == ["left", "right"][: len(called)]


def test_a_decorator_below_another_one_still_sees_the_constructor() -> None:
    class Plain:
        x: int

    watch(Plain)
    made = dataclass(Plain)(x=1)  # type: ignore[call-arg]
    assert made.x == 1
    assert given_to(made) == ((), {"x": 1})


def test_an_init_that_is_wrapped_afterwards_is_still_seen() -> None:
    class Wrapped:
        def __init__(self, x: int) -> None: ...

    watch(Wrapped)
    Wrapped(1)
    inner: Any = Wrapped.__init__

    @functools.wraps(inner)
    def outer(self: Any, x: int) -> None:
        inner(self, x)

    Wrapped.__init__ = outer  # type: ignore[method-assign]
    assert given_to(Wrapped(2)) == ((2,), {})
    Wrapped.__init__ = lambda self, x, y: None  # type: ignore[method-assign, misc, assignment]
    assert given_to(Wrapped(2, 3)) == ((2, 3), {})  # type: ignore[call-arg]


def test_a_singleton_by_new_is_known() -> None:
    class Single:
        only: Any = None

        def __new__(cls, *args: Any) -> Any:
            if cls.only is None:
                cls.only = super().__new__(cls)
            return cls.only

        def __init__(self, x: int) -> None: ...

    watch(Single)
    assert Single(1) is Single(2)
    assert given_to(Single.only) == ((2,), {})


def test_a_metaclass_that_stands_before_the_constructor_is_refused() -> None:
    class Once(type):
        made: Any = None

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            cls.made = cls.made or super().__call__(*args, **kwargs)
            return cls.made

    class Single(metaclass=Once):
        def __init__(self, x: int) -> None: ...

    with pytest.raises(BadOption, match=r"Single has a metaclass \(.*Once\) with a __call__ of its own.*a plain class"):
        watch(Single)
    assert Single(1) is Single(2)


def test_threads_that_construct_at_once_are_all_recorded() -> None:
    class Busy:
        def __init__(self, n: int) -> None:
            self.n = n

    watch(Busy)
    start = threading.Barrier(8)
    made: list[Any] = []

    def run(n: int) -> None:
        start.wait()
        made.extend(Busy(n * 1000 + m) for m in range(300))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2400
    assert all(given_to(one) == ((one.n,), {}) for one in made)


def test_watching_twice_changes_nothing() -> None:
    watch(Point)
    new, Point.made = Point.__new__, Point(1)  # type: ignore[attr-defined]
    init = Point.__init__
    watch(Point)
    Point(2)
    assert (Point.__new__, Point.__init__) == (new, init)


# ── what stays as it was ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [Point, Slots, Pair, Data, SlotData])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_copies_are_equal_and_known_to_be_copies(kind: Any, protocol: int) -> None:
    made = watched(kind)(1)
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made, protocol))):
        assert type(other) is kind
        assert given_to(other) is None
        fields = ("x", "y") if kind is Point else ("x",) if kind is not Pair else ("left",)
        assert all(getattr(other, name) == getattr(made, name) for name in fields)


def test_a_dataclass_stays_one() -> None:
    made = watched(Data)(1, y=2)
    assert made == Data(1, 2)
    assert hash(made) == hash(Data(1, 2))
    assert made < Data(2)
    assert repr(made) == "Data(x=1, y=2)"
    assert given_to(dataclasses.replace(made, x=5)) == ((), {"x": 5, "y": 2})
    assert dataclasses.asdict(made) == {"x": 1, "y": 2}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = 3


def test_nothing_is_added_to_the_object() -> None:
    assert vars(watched(Point)(1)) == {"x": 1, "y": 0}


def test_what_takes_no_arguments_still_takes_none() -> None:
    watch(Alone)
    assert given_to(Alone()) == ((), {})
    with pytest.raises(TypeError, match=r"Alone\(\) takes no arguments"):
        Alone(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="takes exactly one argument"):
        Alone.__init__(Alone(), 1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: 'x'"):
        watched(Point)()
    watch(WithNew)
    assert given_to(WithNew(1, y=2)) == ((1,), {"y": 2})
    watch(BadNew)
    with pytest.raises(TypeError, match=r"object.__new__\(\) takes exactly one argument"):
        BadNew(1)


def test_a_child_that_passes_arguments_to_object_is_refused_as_before() -> None:
    class Child(watched(Alone)):  # type: ignore[misc]
        def __new__(cls, x: int) -> Any:
            return super().__new__(cls, x)

    with pytest.raises(TypeError, match=r"object.__new__\(\) takes exactly one argument"):
        Child(1)


def test_an_abstract_class_stays_abstract() -> None:
    watch(Base)
    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]


def test_a_generic_class_stays_generic() -> None:
    class Box(Generic[T]):
        def __init__(self, x: T) -> None:
            self.x = x

    watch(Box)
    assert given_to(Box[int](1)) == ((1,), {})
    assert Box[int].__origin__ is Box  # type: ignore[attr-defined]


def test_an_exception_class_can_be_watched() -> None:
    class Trouble(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}")

    watch(Trouble)
    assert given_to(Trouble(7)) == ((7,), {})
    assert str(Trouble(7)) == "code 7"


def test_a_del_of_its_own_is_called() -> None:
    ended: list[int] = []

    class Ends:
        __slots__ = ("x",)

        def __init__(self, x: int) -> None:
            self.x = x

        def __del__(self) -> None:
            ended.append(self.x)

    watch(Ends)
    Ends(3)
    gc.collect()
    assert ended == [3]


def shapes() -> Iterator[tuple[Any, str]]:
    class Init:
        def __init__(self, a: int, /, b: str = "x", *c: int, d: bool, **e: Any) -> None: ...

    class New:
        def __new__(cls, a: int) -> Any:
            return super().__new__(cls)

    class Both:
        def __new__(cls, *args: Any) -> Any:
            return super().__new__(cls)

        def __init__(self, a: int) -> None: ...

    @dataclass
    class Fields:
        a: int
        b: int = 1

    for kind in (Init, New, Fields, Pair, Point, Alone, Slots):
        yield kind, kind.__name__
    yield Both, "Both"


@pytest.mark.parametrize("kind", [kind for kind, _ in shapes()], ids=[name for _, name in shapes()])
def test_the_signature_is_the_one_that_was_written(kind: Any) -> None:
    twin = type("Twin", (), {name: vars(kind)[name] for name in ("__init__", "__new__") if name in vars(kind)})
    before = list(inspect.signature(kind).parameters.values())
    if kind.__name__ == "Both":  # of two that were written, inspect takes one; here it is the one that says more
        before = list(inspect.signature(kind.__init__).parameters.values())[1:]
    assert twin is not kind
    watch(kind)
    assert list(inspect.signature(kind).parameters.values()) == before

    class Below(kind): ...

    assert list(inspect.signature(Below).parameters.values()) == before
    assert constructor(Below) is constructor(kind)


def test_a_class_of_c_is_refused() -> None:
    with pytest.raises(BadOption, match=r"builtins\.dict cannot be a task: its constructor cannot be watched"):
        watch(dict)
