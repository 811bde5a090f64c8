"""Finding operations by their globals: terms narrow down, and `contains` decides."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import NotSerializable
from piecework.terms import LONGEST, contains, term

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
DOCUMENTS = st.dictionaries(st.text(min_size=1, max_size=3), VALUES, max_size=4)


def terms(document: dict[str, Any]) -> set[str]:
    return {term(key, value) for key, value in document.items()}


@st.composite
def parts(draw: st.DrawFn, value: Any) -> Any:
    """A part of a value: fewer keys, fewer items in another order, each again a part."""
    if isinstance(value, dict):
        keys = draw(st.lists(st.sampled_from(sorted(value)), unique=True)) if value else []
        return {key: draw(parts(value[key])) for key in keys}
    if isinstance(value, list):
        chosen = draw(st.lists(st.integers(0, len(value) - 1), unique=True)) if value else []
        return [draw(parts(value[n])) for n in chosen]
    return value


@st.composite
def documents_and_parts(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    document = draw(DOCUMENTS)
    return document, draw(parts(document))


@given(documents_and_parts())
def test_a_document_contains_every_part_of_it_and_has_its_terms(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    document, part = both
    assert contains(document, part)
    assert terms(part) <= terms(document)


@given(DOCUMENTS, DOCUMENTS)
def test_what_is_contained_has_terms_that_the_document_has(document: dict[str, Any], part: dict[str, Any]) -> None:
    """Else a search by terms would miss what the decision would take."""
    if contains(document, part):
        assert terms(part) <= terms(document)


@given(st.text(min_size=1, max_size=3), SCALARS, SCALARS)
def test_scalars_of_one_term_are_equal(key: str, one: Any, other: Any) -> None:
    """So that counting by terms alone is exact."""
    assert (term(key, one) == term(key, other)) == contains({key: one}, {key: other})


@given(DOCUMENTS)
def test_json_on_the_way_changes_nothing(document: dict[str, Any]) -> None:
    arrived = json.loads(json.dumps(document))
    assert contains(arrived, document)
    assert terms(arrived) == terms(document)


STORED = {
    "subscription_id": 7,
    "tags": ["a", "b", "c"],
    "o": {"p": 1, "q": 2},
    "n": None,
    "t": True,
    "list": [{"x": 1, "y": 2}],
}


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({}, True),
        ({"subscription_id": 7}, True),
        ({"subscription_id": 7.0}, True),
        ({"subscription_id": "7"}, False),
        ({"tags": ["c", "a"]}, True),
        ({"tags": ["c", "c"]}, True),
        ({"tags": []}, True),
        ({"tags": ["z"]}, False),
        ({"tags": "a"}, False),
        ({"o": {"p": 1}}, True),
        ({"o": {"p": 2}}, False),
        ({"o": {}}, True),
        ({"list": [{"x": 1}]}, True),
        ({"list": [{"x": 2}]}, False),
        ({"zz": 1}, False),
        ({"n": None}, True),
        ({"zz": None}, False),
        ({"t": True}, True),
        ({"t": 1}, False),
        ({"subscription_id": True}, False),
        ({"o": ["p"]}, False),
    ],
)
def test_containment_is_that_of_postgresql(part: dict[str, Any], found: bool) -> None:
    assert contains(STORED, part) is found


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_as_deeply_as_a_global_may_be_is_found() -> None:
    deep = {"x": nested(600)}
    assert contains(deep, {"x": nested(600)})
    assert not contains(deep, {"x": nested(599)})
    with pytest.raises(NotSerializable, match="nested too deeply"):
        contains({"x": nested(5000)}, {"x": nested(5000)})


def test_a_long_value_has_a_short_term_of_its_own() -> None:
    one, other = term("k", "x" * 10_000), term("k", "x" * 9_999 + "y")
    assert len(one) <= LONGEST
    assert one != other
    assert term("k" * 10_000, [1]) != term("k" * 9_999 + "j", [1])


def test_numbers_that_are_equal_have_one_term_and_text_has_another() -> None:
    assert term("k", 1) == term("k", 1.0)
    assert len({term("k", 1), term("k", "1"), term("k", True), term("k", None), term("k", [1]), term("k", 1.5)}) == 6
