"""What arrives equals what was sent, or the call is refused: as a property, over nested values of every kind."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piecework.codec import ResultCodec, Signature
from piecework.errors import BadArguments


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Box:
    number: float | None
    parts: list[Box] | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Struct(msgspec.Struct):
    number: float | None
    when: datetime | None = None


def anything(x): ...  # type: ignore[no-untyped-def]
def star(*args, **kwargs): ...  # type: ignore[no-untyped-def]


# ── values ───────────────────────────────────────────────────────────────────────────────────────

any_text = st.text(st.characters(exclude_categories=()), max_size=5)  # lone surrogates, too
ints = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([2**63, 2**64, -(2**63) - 1])
floats = st.floats()
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
moments = st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=offsets)
times = st.times() | st.times(timezones=offsets)
decimals = st.decimals() | st.just(Decimal("sNaN"))
boxes = st.recursive(
    st.builds(Box, floats | st.none()), lambda inner: st.builds(Box, floats, st.lists(inner, max_size=2))
)

plain = st.none() | st.booleans() | ints | floats | any_text
rich = st.one_of(
    st.binary(max_size=5), st.uuids(), moments, st.dates(), times, st.timedeltas(), decimals, st.sampled_from(Colour), boxes,
    st.builds(Pair, ints, any_text), st.builds(Struct, floats | st.none(), moments | st.none()),
    st.frozensets(ints, max_size=3), st.sets(any_text, max_size=3), st.complex_numbers(), st.builds(object),
)  # fmt: skip
keys = any_text | st.integers(-9, 9) | st.booleans() | st.none() | st.dates() | st.floats()


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(any_text, inner, max_size=3)
        | st.tuples(inner)
        | st.tuples(inner, inner)
    )


json_values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3)
)
values = st.recursive(plain | rich, containers, max_leaves=8)


def agree(sent: Any, arrived: Any) -> bool:
    """Equal in Python's eyes, all the way down; NaN is itself where both are."""
    if isinstance(sent, Decimal) and isinstance(arrived, Decimal) and (sent.is_nan() or arrived.is_nan()):
        return str(sent) == str(arrived)
    if isinstance(sent, float) and isinstance(arrived, float) and math.isnan(sent):
        return math.isnan(arrived)
    if isinstance(sent, list | tuple) and isinstance(arrived, type(sent)):
        return len(sent) == len(arrived) and all(map(agree, sent, arrived))
    if isinstance(sent, dict) and isinstance(arrived, dict):
        return agree(list(sent.items()), list(arrived.items()))
    if isinstance(sent, Box) and isinstance(arrived, Box):
        return agree(sent.number, arrived.number) and agree(sent.parts, arrived.parts)
    if isinstance(sent, datetime | time) and isinstance(arrived, datetime | time):
        return sent == arrived and sent.replace(tzinfo=None) == arrived.replace(tzinfo=None)
    return bool(sent == arrived)


def arrives_or_is_refused(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    signature = Signature(function, function.__name__)
    try:
        text = signature.encode(args, kwargs)
    except BadArguments as refused:
        assert "argument" in str(refused)
        return
    text.encode("utf-8")
    arrived_args, arrived_kwargs = Signature(function, function.__name__).decode(text)
    assert agree(args, arrived_args), (args, arrived_args)
    assert agree(kwargs, arrived_kwargs), (kwargs, arrived_kwargs)


@given(values)
@settings(max_examples=300, deadline=None)
def test_an_unannotated_argument_arrives_or_is_refused(value: Any) -> None:
    arrives_or_is_refused(anything, value)


@given(
    st.lists(values, max_size=2), st.dictionaries(st.sampled_from(["a", "args", "kwargs", "self"]), values, max_size=2)
)
@settings(max_examples=100, deadline=None)
def test_star_arguments_arrive_or_are_refused(args: list[Any], kwargs: dict[str, Any]) -> None:
    arrives_or_is_refused(star, *args, **kwargs)


def clean(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, list):
        return all(map(clean, value))
    if isinstance(value, dict):
        return all(clean(key) and clean(item) for key, item in value.items())
    return not isinstance(value, int) or abs(value) < 2**63


@given(json_values.filter(clean))
@settings(deadline=None)
def test_what_json_knows_is_never_refused(value: Any) -> None:
    """The other half: a codec that refused everything would pass the tests above."""
    signature = Signature(anything, "anything")
    ((arrived,), _) = signature.decode(signature.encode((value,), {}))
    assert repr(arrived) == repr(value)


# ── annotated ────────────────────────────────────────────────────────────────────────────────────

ANNOTATED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, ints),
    (float, floats | ints),
    (str, any_text),
    (bytes, st.binary()),
    (UUID, st.uuids()),
    (datetime, moments),
    (date, st.dates()),
    (time, times),
    (timedelta, st.timedeltas()),
    (Decimal, decimals),
    (Colour, st.sampled_from(Colour)),
    (Box, boxes),
    (Pair, st.builds(Pair, ints, any_text)),
    (Struct, st.builds(Struct, floats | st.none(), moments | st.none())),
    (list[datetime], st.lists(moments)),
    (set[float | None], st.sets(floats | st.none())),
    (set[UUID], st.sets(st.uuids())),
    (frozenset[date], st.frozensets(st.dates())),
    (tuple[int, bytes], st.tuples(ints, st.binary())),
    (tuple[Decimal, ...], st.lists(decimals).map(tuple)),
    (tuple[list[float], ...], st.lists(st.lists(floats)).map(tuple)),
    (dict[int, str], st.dictionaries(ints, any_text)),
    (dict[date, list[Box]], st.dictionaries(st.dates(), st.lists(boxes, max_size=2))),
    (dict[UUID, timedelta | None], st.dictionaries(st.uuids(), st.timedeltas() | st.none())),
    (dict[float, int], st.dictionaries(floats, ints)),
    (dict[Colour, Pair], st.dictionaries(st.sampled_from(Colour), st.builds(Pair, ints, any_text))),
    (int | str | None, ints | any_text | st.none()),
    (bytes | int | None, st.binary() | ints | st.none()),
    (Any, json_values),
]


def annotated(kind: Any) -> Callable[..., Any]:
    def task(x): ...  # type: ignore[no-untyped-def]

    task.__annotations__ = {"x": kind, "return": kind}
    return task


@pytest.mark.parametrize(("kind", "strategy"), ANNOTATED, ids=[str(kind) for kind, _ in ANNOTATED])
def test_an_annotated_argument_arrives_or_is_refused(kind: Any, strategy: st.SearchStrategy[Any]) -> None:
    task = annotated(kind)

    @given(strategy)
    @settings(max_examples=40, deadline=None)
    def holds(value: Any) -> None:
        arrives_or_is_refused(task, value)

    holds()


@pytest.mark.parametrize("kind", [kind for kind, _ in ANNOTATED], ids=str)
def test_a_value_of_a_foreign_kind_arrives_or_is_refused(kind: Any) -> None:
    """Whatever is handed to a parameter of whatever annotation."""
    task = annotated(kind)

    @given(values)
    @settings(max_examples=20, deadline=None)
    def holds(value: Any) -> None:
        arrives_or_is_refused(task, value)

    holds()


@pytest.mark.parametrize(("kind", "strategy"), ANNOTATED, ids=[str(kind) for kind, _ in ANNOTATED])
def test_an_annotated_result_arrives_or_is_refused(kind: Any, strategy: st.SearchStrategy[Any]) -> None:
    task = annotated(kind)

    @given(strategy)
    @settings(max_examples=40, deadline=None)
    def holds(value: Any) -> None:
        codec = ResultCodec(task, "task")
        try:
            text = codec.encode(value)
        except BadArguments:
            return
        assert agree(value, codec.decode(text))

    holds()


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
@settings(deadline=None)
def test_stored_text_of_any_kind_is_read_or_refused(text: str) -> None:
    signature = Signature(annotated(list[datetime]), "task")
    try:
        signature.decode(text)
    except BadArguments as refused:
        assert "task" in str(refused)
