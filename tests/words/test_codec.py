"""Arguments to JSON and back: what arrives equals what was sent, or the call is refused, naming the place."""

from __future__ import annotations

import enum
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from piecework.codec import MAX_PAYLOAD, ResultCodec, Signature
from piecework.errors import BadArguments, NotSerializable, TooLarge

# ── types of a user's own ────────────────────────────────────────────────────────────────────────


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Mixed(enum.Enum):
    """Of two kinds, so that JSON text does not tell which member is meant."""

    ONE = 1
    TWO = "two"


@dataclass
class Address:
    street: str
    zip: str | None = None


@dataclass(frozen=True)
class Person:
    name: str
    born: date
    addresses: list[Address] = field(default_factory=list)
    tags: frozenset[str] = frozenset()


@dataclass(eq=False)
class Identity:
    """Equal to itself only, so that it has to be compared field by field."""

    number: float


@dataclass
class Employee(Address):
    salary: int = 0


class Point(NamedTuple):
    x: int
    y: int = 0


class Row(TypedDict, total=False):
    id: int
    at: datetime


class Struct(msgspec.Struct):
    number: float | None
    inner: Struct | None = None


class Model(pydantic.BaseModel):
    number: float | None = None
    at: datetime | None = None
    parts: list[Address] = []


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────


def anything(x): ...  # type: ignore[no-untyped-def]
def a_bool(x: bool): ...  # type: ignore[no-untyped-def]
def an_int(x: int): ...  # type: ignore[no-untyped-def]
def a_float(x: float): ...  # type: ignore[no-untyped-def]
def a_str(x: str): ...  # type: ignore[no-untyped-def]
def some_bytes(x: bytes): ...  # type: ignore[no-untyped-def]
def a_bytearray(x: bytearray): ...  # type: ignore[no-untyped-def]
def a_uuid(x: UUID): ...  # type: ignore[no-untyped-def]
def a_datetime(x: datetime): ...  # type: ignore[no-untyped-def]
def a_date(x: date): ...  # type: ignore[no-untyped-def]
def a_time(x: time): ...  # type: ignore[no-untyped-def]
def a_timedelta(x: timedelta): ...  # type: ignore[no-untyped-def]
def a_decimal(x: Decimal): ...  # type: ignore[no-untyped-def]
def a_colour(x: Colour): ...  # type: ignore[no-untyped-def]
def a_level(x: Level): ...  # type: ignore[no-untyped-def]
def a_word(x: Word): ...  # type: ignore[no-untyped-def]
def a_literal(x: Literal["a", 1]): ...  # type: ignore[no-untyped-def]
def a_list(x: list[datetime]): ...  # type: ignore[no-untyped-def]
def a_bare_list(x: list): ...  # type: ignore[no-untyped-def,type-arg]
def a_set(x: set[int]): ...  # type: ignore[no-untyped-def]
def a_set_of_floats(x: set[float | None]): ...  # type: ignore[no-untyped-def]
def a_frozenset(x: frozenset[UUID]): ...  # type: ignore[no-untyped-def]
def a_tuple(x: tuple[int, str, bytes]): ...  # type: ignore[no-untyped-def]
def a_long_tuple(x: tuple[Decimal, ...]): ...  # type: ignore[no-untyped-def]
def a_bare_tuple(x: tuple): ...  # type: ignore[no-untyped-def,type-arg]
def a_dict(x: dict[str, list[bytes]]): ...  # type: ignore[no-untyped-def]
def int_keys(x: dict[int, str]): ...  # type: ignore[no-untyped-def]
def date_keys(x: dict[date, int]): ...  # type: ignore[no-untyped-def]
def uuid_keys(x: dict[UUID, int]): ...  # type: ignore[no-untyped-def]
def enum_keys(x: dict[Colour, int]): ...  # type: ignore[no-untyped-def]
def a_mapping(x: Mapping[str, int]): ...  # type: ignore[no-untyped-def]
def a_sequence(x: Sequence[int]): ...  # type: ignore[no-untyped-def]
def an_address(x: Address): ...  # type: ignore[no-untyped-def]
def a_person(x: Person): ...  # type: ignore[no-untyped-def]
def an_identity(x: Identity): ...  # type: ignore[no-untyped-def]
def a_point(x: Point): ...  # type: ignore[no-untyped-def]
def a_row(x: Row): ...  # type: ignore[no-untyped-def]
def a_struct(x: Struct): ...  # type: ignore[no-untyped-def]
def a_model(x: Model): ...  # type: ignore[no-untyped-def]
def some_models(x: dict[str, Model | None]): ...  # type: ignore[no-untyped-def]
def a_path(x: Path): ...  # type: ignore[no-untyped-def]
def some_paths(x: list[Path]): ...  # type: ignore[no-untyped-def]
def a_pure_path(x: PurePosixPath): ...  # type: ignore[no-untyped-def]
def maybe(x: Optional[UUID]): ...  # type: ignore[no-untyped-def]  # noqa: UP045
def either(x: Union[int, str, None]): ...  # type: ignore[no-untyped-def]  # noqa: UP007
def bounded(x: Annotated[int, msgspec.Meta(ge=0, le=9)]): ...  # type: ignore[no-untyped-def]
def an_any(x: Any): ...  # type: ignore[no-untyped-def]
def a_mixed(x: Mixed): ...  # type: ignore[no-untyped-def]
def an_object(x: object): ...  # type: ignore[no-untyped-def]


def signature(function: Callable[..., Any]) -> Signature:
    return Signature(function, function.__name__)


def travel(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the function is called with in the worker."""
    text = signature(function).encode(args, kwargs)
    return signature(function).decode(text)


def same(sent: Any, arrived: Any) -> bool:
    """Equal, of one type, all the way down: `True` is not 1, and 1 is not 1.0."""
    if type(sent) is not type(arrived):
        return False
    if isinstance(sent, dict):
        return list(map(repr, sent)) == list(map(repr, arrived)) and all(same(sent[key], arrived[key]) for key in sent)
    if isinstance(sent, list | tuple):
        return len(sent) == len(arrived) and all(map(same, sent, arrived))
    return bool(sent == arrived) and (isinstance(sent, pydantic.BaseModel) or repr(sent) == repr(arrived))


ARRIVES: list[tuple[Callable[..., Any], Any]] = [
    (anything, None),
    (anything, True),
    (anything, 0),
    (anything, -(2**63)),
    (anything, 2**64 - 1),
    (anything, ""),
    (anything, "ünï\n\x00\x1b[31m 💥"),
    (anything, 0.1),
    (anything, -0.0),
    (anything, 5e-324),
    (anything, 1.7976931348623157e308),
    (anything, []),
    (anything, {}),
    (anything, {"": [None, {"a": [True, 1, 1.0, "1"]}]}),
    (an_any, {"a": [1]}),
    (an_object, {"a": [1]}),
    (a_bool, False),
    (an_int, 0),
    (an_int, -(2**63)),
    (a_float, 1.5),
    (a_str, ""),
    (some_bytes, b""),
    (some_bytes, bytes(range(256))),
    (a_bytearray, bytearray(b"ab\x00")),
    (a_uuid, UUID(int=0)),
    (a_datetime, datetime(2024, 2, 29, 12, 0, 0, 1)),
    (a_datetime, datetime(2024, 2, 29, 12, tzinfo=UTC)),
    (a_datetime, datetime(1, 1, 1)),
    (a_datetime, datetime(9999, 12, 31, 23, 59, 59, 999999)),
    (a_datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))),
    (a_date, date(1, 1, 1)),
    (a_time, time(23, 59, 59, 999999)),
    (a_time, time(1, 2, 3, tzinfo=UTC)),
    (a_timedelta, timedelta()),
    (a_timedelta, timedelta(days=-1, microseconds=1)),
    (a_timedelta, timedelta.max),
    (a_timedelta, timedelta.min),
    (a_decimal, Decimal("1.10")),
    (a_decimal, Decimal("-1E+400")),
    (a_colour, Colour.RED),
    (a_level, Level.HIGH),
    (a_word, Word.YES),
    (a_literal, "a"),
    (a_literal, 1),
    (a_list, [datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC)]),
    (a_bare_list, [1, "a", None]),
    (a_set, {3, 1, 2}),
    (a_set, set()),
    (a_set_of_floats, {1.5, None}),
    (a_frozenset, frozenset({UUID(int=1)})),
    (a_tuple, (1, "a", b"b")),
    (a_long_tuple, ()),
    (a_long_tuple, (Decimal("0.0"), Decimal("7"))),
    (a_bare_tuple, (1, "a")),
    (a_dict, {"b": [b"x"], "a": []}),
    (int_keys, {2: "b", -1: "a"}),
    (date_keys, {date(2024, 1, 1): 1}),
    (uuid_keys, {UUID(int=7): 1}),
    (enum_keys, {Colour.BLUE: 1}),
    (a_mapping, {"a": 1}),
    (a_sequence, [1]),
    (an_address, Address("High Street 1", None)),
    (a_person, Person("Ada", date(1815, 12, 10), [Address("a"), Address("b", "1")], frozenset({"x"}))),
    (a_point, Point(1, -1)),
    (a_row, Row(id=1, at=datetime(2024, 1, 1))),
    (a_row, Row(id=1)),
    (a_struct, Struct(1.5, Struct(None))),
    (a_model, Model(number=1.5, at=datetime(2024, 1, 1, tzinfo=UTC), parts=[Address("a")])),
    (some_models, {"a": Model(), "b": None}),
    (a_path, Path("a/../b c")),
    (some_paths, [Path("/"), Path(".")]),
    (a_pure_path, PurePosixPath("a")),
    (maybe, None),
    (maybe, UUID(int=1)),
    (either, 1),
    (either, "1"),
    (either, None),
    (bounded, 9),
]


@pytest.mark.parametrize(("function", "value"), ARRIVES, ids=[f"{f.__name__}-{n}" for n, (f, _) in enumerate(ARRIVES)])
def test_what_was_sent_arrives(function: Callable[..., Any], value: Any) -> None:
    (arrived,), named = travel(function, value)
    assert same(value, arrived)
    assert named == {}


def test_what_is_equal_field_by_field_arrives() -> None:
    ((arrived,), _) = travel(an_identity, Identity(1.5))
    assert type(arrived) is Identity
    assert arrived.number == 1.5


def test_an_int_for_a_float_and_a_subclass_for_its_base_arrive_as_equals() -> None:
    assert travel(a_float, 1) == ((1.0,), {})
    assert travel(anything, Level.LOW) == ((1,), {})
    assert travel(anything, Word.YES) == (("yes",), {})
    assert travel(anything, OrderedDict(a=1)) == (({"a": 1},), {})
    assert travel(a_bare_tuple, Point(1, 2)) == (((1, 2),), {})


def test_an_aware_datetime_of_a_zone_arrives_as_the_same_moment() -> None:
    """JSON knows offsets, not zones."""
    sent = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    ((arrived,), _) = travel(a_datetime, sent)
    assert arrived == sent
    assert arrived.utcoffset() == sent.utcoffset()


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 2**200])
@pytest.mark.parametrize("function", [anything, an_int])
def test_an_int_beyond_64_bits_arrives_whole_or_is_refused(function: Callable[..., Any], number: int) -> None:
    try:
        ((arrived,), _) = travel(function, number)
    except NotSerializable as refused:
        assert "argument x" in str(refused)
    else:
        assert same(number, arrived)


def test_an_int_of_thousands_of_digits_arrives_whole_or_is_refused() -> None:
    number = 10**6000
    try:
        ((arrived,), _) = travel(anything, number)
    except NotSerializable as refused:
        assert "argument x" in str(refused)
    else:
        assert number == arrived


# ── kinds of parameters ──────────────────────────────────────────────────────────────────────────


def all_kinds(
    a: int, /, b: date, c: str = "c", *args: UUID, d: Decimal, e: int | None = None, **kwargs: bytes
) -> None: ...
def only_star(*args, **kwargs): ...  # type: ignore[no-untyped-def]
def same_name(a, /, **kwargs): ...  # type: ignore[no-untyped-def]
def with_defaults(a: int = 1, b: list[int] = [2], c: float = math.nan) -> None: ...  # noqa: B006
def nothing() -> None: ...


def test_every_kind_of_parameter_arrives_where_it_was_sent() -> None:
    args, kwargs = travel(all_kinds, 1, date(2024, 1, 1), "x", UUID(int=1), UUID(int=2), d=Decimal(1), y=b"y", z=b"")
    assert args == (1, date(2024, 1, 1), "x", UUID(int=1), UUID(int=2))
    assert kwargs == {"d": Decimal(1), "e": None, "y": b"y", "z": b""}


def test_a_keyword_argument_may_be_called_as_a_positional_only_parameter() -> None:
    assert travel(same_name, 1, a=2) == ((1,), {"a": 2})


def test_star_arguments_may_be_none_at_all() -> None:
    assert travel(only_star) == ((), {})
    assert travel(only_star, 1, "a", k=[None]) == ((1, "a"), {"k": [None]})


def test_no_arguments_are_no_arguments() -> None:
    assert travel(nothing) == ((), {})


def test_defaults_are_filled_in_where_the_function_runs() -> None:
    """They are not stored: a default that changed in the meantime is the new one, and may be anything."""
    assert signature(with_defaults).encode((), {}) == "{}"
    (a, b, c), _ = travel(with_defaults)
    assert (a, b) == (1, [2])
    assert math.isnan(c)


@pytest.mark.parametrize(
    ("args", "kwargs", "blamed"),
    [
        ((), {}, "'b'|'a'"),
        ((1, date(2024, 1, 1)), {}, "'d'"),
        ((1, date(2024, 1, 1)), {"d": Decimal(1), "b": date(2024, 1, 1)}, "'b'"),
        (("1", date(2024, 1, 1)), {"d": Decimal(1)}, "argument a"),
        ((1, "2024-01-01x"), {"d": Decimal(1)}, "argument b"),
        ((1, date(2024, 1, 1), "c", "no uuid"), {"d": Decimal(1)}, r"argument args\[0\]"),
        ((1, date(2024, 1, 1)), {"d": Decimal(1), "k": 7}, r"argument kwargs\["),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_task_and_the_parameter_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], blamed: str
) -> None:
    with pytest.raises(BadArguments, match=blamed) as refused:
        signature(all_kinds).encode(args, kwargs)
    assert "all_kinds" in str(refused.value)


def test_bad_arguments_are_a_type_error_as_in_a_plain_call() -> None:
    with pytest.raises(TypeError):
        signature(nothing).encode((1,), {})


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────

NAN, INF = math.nan, math.inf
REFUSED: list[tuple[str, Callable[..., Any], Any, str]] = [
    ("nan", anything, NAN, "argument x"),
    ("inf", anything, INF, "argument x"),
    ("minus_inf", anything, -INF, "argument x"),
    ("nan_in_list", anything, [1, {"a": NAN}], "argument x[1]['a']"),
    ("inf_in_dict", anything, {"a": [INF]}, "argument x['a'][0]"),
    ("nan_as_float", a_float, NAN, "argument x"),
    ("inf_as_float", a_float, INF, "argument x"),
    ("nan_in_struct", a_struct, Struct(1.0, Struct(NAN)), "argument x.inner.number"),
    ("nan_in_set", a_set_of_floats, {NAN}, "argument x"),
    ("nan_in_identity", an_identity, Identity(NAN), "argument x"),
    ("nan_in_model", a_model, Model(number=NAN), "argument x"),
    ("nan_as_key", anything, {NAN: 1}, "argument x"),
    ("tuple", anything, (1,), "argument x"),
    ("tuple_deep", anything, [{"a": (1,)}], "argument x[0]['a']"),
    ("datetime", anything, datetime(2024, 1, 1), "argument x"),
    ("datetime_deep", anything, {"at": datetime(2024, 1, 1)}, "argument x['at']"),
    ("date", anything, date(2024, 1, 1), "argument x"),
    ("time", anything, time(1), "argument x"),
    ("timedelta", anything, timedelta(1), "argument x"),
    ("set", anything, {1}, "argument x"),
    ("empty_set", anything, set(), "argument x"),
    ("frozenset", anything, frozenset(), "argument x"),
    ("bytes", anything, b"a", "argument x"),
    ("uuid", anything, UUID(int=1), "argument x"),
    ("decimal", anything, Decimal(1), "argument x"),
    ("enum", anything, Colour.RED, "argument x"),
    ("path", anything, Path("a"), "argument x"),
    ("dataclass", anything, Address("a"), "argument x"),
    ("struct", anything, Struct(1.0), "argument x"),
    ("model", anything, Model(), "argument x"),
    ("int_keys", anything, {1: "a"}, "argument x"),
    ("int_keys_deep", anything, {"a": [{1: "a"}]}, "argument x['a'][0]"),
    ("none_key", anything, {None: 1}, "argument x"),
    ("bool_key", anything, {True: 1}, "argument x"),
    ("tuple_key", anything, {(1, 2): 1}, "argument x"),
    ("two_keys_of_one_text", anything, {1: "a", "1": "b"}, "argument x"),
    ("object", anything, object(), "argument x"),
    ("object_deep", anything, {"a": [object()]}, "argument x['a'][0]"),
    ("object_in_dataclass", an_address, Address(object()), "argument x.street"),  # type: ignore[arg-type]
    ("lock", anything, threading.Lock(), "argument x"),
    ("function", anything, len, "argument x"),
    ("lambda", anything, lambda: None, "argument x"),
    ("generator", anything, iter(()), "argument x"),
    ("class", anything, int, "argument x"),
    ("exception", anything, ValueError("x"), "argument x"),
    ("complex", anything, 1j, "argument x"),
    ("ellipsis", anything, ..., "argument x"),
    ("surrogate", anything, "\ud800", "argument x"),
    ("surrogate_deep", anything, ["ok", {"a": "\udcff"}], "argument x[1]['a']"),
    ("surrogate_key", anything, {"\ud800": 1}, "argument x"),
    ("surrogate_path", a_path, Path("a\udcff"), "argument x"),
    ("list_for_tuple", a_tuple, [1, "a", b"b"], "argument x"),
    ("tuple_for_list", a_bare_list, (1,), "argument x"),
    ("list_for_set", a_set, [1, 2], "argument x"),
    ("text_for_datetime", a_datetime, "2024-01-01T00:00:00", "argument x"),
    ("text_for_uuid", a_uuid, str(UUID(int=1)), "argument x"),
    ("text_for_path", a_path, "a", "argument x"),
    ("text_for_bytes", some_bytes, "YQ==", "argument x"),
    ("number_for_decimal", a_decimal, "1.0", "argument x"),
    ("value_for_enum", a_colour, "red", "argument x"),
    ("dict_for_dataclass", an_address, {"street": "a"}, "argument x"),
    ("subclass_with_more", an_address, Employee("a", None, 7), "argument x"),
    ("unknown_key_for_row", a_row, {"id": 1, "other": 2}, "argument x"),
    ("true_for_int", an_int, True, "argument x"),
    ("one_for_bool", a_bool, 1, "argument x"),
    ("float_for_int", an_int, 1.5, "argument x"),
    ("big_int_for_float", a_float, 2**53 + 1, "argument x"),
    ("out_of_bounds", bounded, 10, "argument x"),
    ("offset_of_seconds", a_datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=30))), "argument x"),
    ("time_offset_of_seconds", a_time, time(1, tzinfo=timezone(timedelta(seconds=30))), "argument x"),
    ("signalling_nan", a_decimal, Decimal("sNaN"), "argument x"),
]


@pytest.mark.parametrize(("function", "value", "path"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_would_not_arrive_is_refused_and_its_place_is_named(
    function: Callable[..., Any], value: Any, path: str
) -> None:
    with pytest.raises(BadArguments) as refused:
        signature(function).encode((value,), {})
    assert path in str(refused.value)
    assert function.__name__ in str(refused.value)


def test_a_refusal_names_the_fix() -> None:
    with pytest.raises(NotSerializable, match="annotate"):
        signature(anything).encode((datetime(2024, 1, 1),), {})
    with pytest.raises(NotSerializable, match="pass None, or a string"):
        signature(anything).encode((NAN,), {})


def test_the_same_words_are_used_of_nan_whatever_the_annotation() -> None:
    """`Expected float, got null` tells nobody that the value was NaN."""
    with pytest.raises(NotSerializable, match="nan"):
        signature(a_float).encode((NAN,), {})


def test_a_cycle_is_refused() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    with pytest.raises(NotSerializable, match="argument x"):
        signature(anything).encode((ring,), {})
    loop: dict[str, Any] = {"a": {}}
    loop["a"]["b"] = loop
    with pytest.raises(NotSerializable, match="argument x"):
        signature(anything).encode((loop,), {})


@pytest.mark.parametrize("depth", [900, 990, 1010, 5000, 100_000])
def test_nesting_of_any_depth_arrives_or_is_refused(depth: int) -> None:
    value: Any = []
    for _ in range(depth):
        value = [value]
    try:
        ((arrived,), _) = travel(anything, value)
    except NotSerializable as refused:
        assert "argument x" in str(refused)
        return
    levels = 0
    while arrived:
        (arrived,) = arrived
        levels += 1
    assert levels == depth


@pytest.mark.parametrize("depth", [300, 490, 600, 950])
def test_a_deep_difference_is_refused_in_words(depth: int) -> None:
    value: Any = (1,)
    for _ in range(depth):
        value = [value]
    with pytest.raises(NotSerializable, match="argument x"):
        signature(anything).encode((value,), {})


def test_arguments_above_the_limit_are_refused_and_told_their_size() -> None:
    sizes = signature(anything)
    text = sizes.encode(("x" * 92,), {}, 100)
    assert len(text) == 100
    with pytest.raises(TooLarge, match="101 bytes.*limit is 100"):
        sizes.encode(("x" * 93,), {}, 100)


def test_the_limit_counts_bytes_not_characters() -> None:
    with pytest.raises(TooLarge):
        signature(anything).encode(("ü" * 60,), {}, 100)


def test_the_default_limit_is_a_mebibyte() -> None:
    assert MAX_PAYLOAD == 1024 * 1024
    signature(anything).encode(("x" * (MAX_PAYLOAD - 8),), {})
    with pytest.raises(TooLarge):
        signature(anything).encode(("x" * (MAX_PAYLOAD - 7),), {})


# ── annotations ──────────────────────────────────────────────────────────────────────────────────


def unresolvable(x: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unreadable(x: threading.Lock) -> None: ...


def test_an_annotation_that_cannot_be_resolved_is_refused_with_the_fix() -> None:
    with pytest.raises(BadArguments, match="NoSuchType.*import the name"):
        signature(unresolvable).encode((1,), {})


def test_an_annotation_that_json_cannot_be_read_as_is_refused() -> None:
    with pytest.raises(BadArguments, match="unreadable"):
        signature(unreadable).encode((threading.Lock(),), {})


def test_an_enum_of_two_kinds_is_refused_with_the_task_named() -> None:
    with pytest.raises(BadArguments, match=r"a_mixed.*Mixed"):
        signature(a_mixed).encode((Mixed.TWO,), {})


def test_nothing_is_resolved_before_the_first_use() -> None:
    """Where a task is declared, names that its annotations mention may not exist yet."""
    signature(unresolvable)


# ── in the worker ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", '{"x": 1, "y": 2}', "{}", '{"x": "no int"}', '{"x": 1} trailing', '{"x": 1e999}', "\x00"],
)
def test_stored_arguments_that_do_not_fit_are_an_error_that_names_the_task(text: str) -> None:
    with pytest.raises(BadArguments, match="an_int"):
        signature(an_int).decode(text)


def test_a_method_is_bound_without_its_self() -> None:
    class Thing:
        def call(self, n: int) -> None: ...

    bound = Signature(Thing.call, "Thing.call", bound=True)
    assert bound.decode(bound.encode((1,), {})) == ((1,), {})


# ── results ──────────────────────────────────────────────────────────────────────────────────────


def gives_person() -> Person: ...  # type: ignore[empty-body]
def gives_tuple() -> tuple[UUID, ...]: ...  # type: ignore[empty-body]
def gives_struct() -> Struct: ...  # type: ignore[empty-body]
def gives_model() -> Model: ...  # type: ignore[empty-body]
def gives_anything(): ...  # type: ignore[no-untyped-def]
def gives_mixed() -> Mixed: ...  # type: ignore[empty-body]
def gives_float() -> float: ...  # type: ignore[empty-body]
def gives_int() -> int: ...  # type: ignore[empty-body]
def gives_unknown() -> NoSuchType: ...  # type: ignore[name-defined]  # noqa: F821


def results(function: Callable[..., Any]) -> ResultCodec:
    return ResultCodec(function, function.__name__)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (gives_person, Person("Ada", date(1815, 12, 10), [Address("a")], frozenset({"x"}))),
        (gives_tuple, (UUID(int=1), UUID(int=2))),
        (gives_struct, Struct(1.0, Struct(None))),
        (gives_model, Model(number=1.0)),
        (gives_anything, {"a": [1, None, 1.5, True]}),
        (gives_anything, None),
        (gives_anything, 0),
        (gives_anything, ""),
        (gives_anything, False),
        (gives_unknown, [1]),
    ],
)
def test_a_result_arrives_typed(function: Callable[..., Any], value: Any) -> None:
    codec = results(function)
    assert same(value, codec.decode(codec.encode(value)))


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (gives_mixed, Mixed.TWO),
        (gives_float, 2**53 + 1),
        (gives_anything, NAN),
        (gives_anything, {"a": [INF]}),
        (gives_struct, Struct(NAN)),
        (gives_struct, Struct(1.0, Struct(INF))),
        (gives_model, Model(number=NAN)),
        (gives_anything, Identity(NAN)),
        (gives_anything, {"a": {NAN}}),
        (gives_anything, object()),
        (gives_anything, "\ud800"),
        (gives_anything, lambda: None),
        (gives_anything, {(1, 2): 3}),
    ],
)
def test_a_result_that_cannot_be_stored_unchanged_is_refused(function: Callable[..., Any], value: Any) -> None:
    with pytest.raises(NotSerializable, match=function.__name__):
        results(function).encode(value)


def test_a_result_that_its_own_annotation_cannot_read_is_refused_where_it_is_made() -> None:
    """Else whoever waits for it finds out, too late, and by an error that is none of piecework's."""
    with pytest.raises(BadArguments, match="gives_int"):
        results(gives_int).encode("no int")


def test_a_result_above_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="gives_anything"):
        results(gives_anything).encode("x" * 99, 100)
