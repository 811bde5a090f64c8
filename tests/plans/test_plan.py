"""Plans and cursors: what comes after what, and that a place is read as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errors import BadArguments
from piecework.plan import Place, Plan, Undoing, read_cursor, read_plan

NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda name: name not in ("undo", "undone")
)
VISITS = st.integers(1, 10**9)
PLAN = Plan(
    {"main": ("charge", "set_up", "email"), "red": ("set_up_red", "email"), "blue": ("charge", "blue")},
    {"red": "main/email", "blue": "red/set_up_red"},
)


@given(NAMES, NAMES, VISITS, st.sampled_from(["", "composing", "undoing", "skipping"]))
def test_a_place_is_read_as_it_was_written(branch: str, step: str, visit: int, flag: str) -> None:
    place = Place(branch, step, visit, **({flag: True} if flag else {}))
    assert read_cursor(place.cursor) == place


@given(NAMES, NAMES, VISITS, st.none() | VISITS)
def test_an_undo_is_read_as_it_was_written(branch: str, step: str, visit: int, run: int | None) -> None:
    place = Place(branch, step, visit, undoing=True, run=run)
    assert read_cursor(place.cursor) == place


@given(VISITS, st.booleans(), st.none() | VISITS)
def test_an_undoing_is_read_as_it_was_written(before: int, over: bool, run: int | None) -> None:
    assert read_cursor(Undoing(before, over, run).cursor) == Undoing(before, over, run)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "compose",
        "main",
        "main/a",
        "main/a/x",
        "main/a/1/2",
        "main/a/1/compose/x",
        "undo/x",
        "undo/1/x",
        "undo",
        "undo/a/b/1/2/3",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadArguments, match="is not the cursor"):
        read_cursor(text)


def test_an_operation_begins_with_the_first_step_of_main() -> None:
    assert PLAN.first == Place("main", "charge", 1)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place("main", "charge", 1), Place("main", "set_up", 2)),
        (Place("main", "set_up", 7, composing=True), Place("main", "email", 8)),
        (Place("main", "set_up", 7, skipping=True), Place("main", "email", 8)),
        (Place("main", "email", 3), None),
        (Place("red", "email", 3), Place("main", "email", 4)),
        (Place("blue", "blue", 3), Place("red", "set_up_red", 4)),
    ],
)
def test_what_comes_after_a_step(place: Place, expected: Place | None) -> None:
    assert PLAN.after(place) == expected


class Watched(tuple[str, ...]):
    """Steps that notice how often somebody goes through them."""

    walked = 0

    def __iter__(self) -> Iterator[str]:
        type(self).walked += 1
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        type(self).walked += 1
        return super().__contains__(name)

    def index(self, *args: Any) -> int:
        type(self).walked += 1
        return super().index(*args)


def test_a_step_is_found_without_going_through_those_before_it() -> None:
    """So that the ten thousandth step of an operation costs what the first does."""
    plan = Plan({"main": Watched(f"step_{n}" for n in range(50)), "other": ("step_7",)})
    place: Place | None = plan.first
    while place is not None:
        assert plan.has_place(place)
        assert plan.target("main", place.step) == place.name
        assert plan.has(place.step) == (place.step != "step_7")
        place = plan.after(place)
    assert Watched.walked == 1


@pytest.mark.parametrize("place", [Place("main", "blue", 1), Place("green", "charge", 1)])
def test_nothing_comes_after_what_is_not_on_the_plan(place: Place) -> None:
    with pytest.raises(BadArguments, match=f"the plan has no step '{place.step}' in '{place.branch}'"):
        PLAN.after(place)


@pytest.mark.parametrize(
    ("where", "step", "expected"),
    [
        ("red", None, "red/set_up_red"),
        ("set_up", None, "main/set_up"),
        ("main", "email", "main/email"),
        ("red", "email", "red/email"),
        ("blue", "blue", "blue/blue"),
        ("blue", "charge", "blue/charge"),
    ],
)
def test_what_a_jump_means(where: str, step: str | None, expected: str) -> None:
    assert PLAN.target(where, step) == expected


def test_a_branch_with_one_step_of_its_own_name_is_no_riddle() -> None:
    assert PLAN.target("blue") == "blue/charge"  # the branch: the step of that name is in it


@pytest.mark.parametrize(
    ("where", "step", "said"),
    [
        ("emial", None, "no branch or step 'emial'; did you mean 'email'"),
        ("email", None, "is in main and red; say jump_to"),
        ("zzz", None, "there are main, red, blue, charge"),
        ("rde", "email", "no branch 'rde'; did you mean 'red'"),
        ("red", "charge", "the branch 'red' has no step 'charge'; it has set_up_red, email"),
    ],
)
def test_a_jump_to_nowhere_says_what_there_is(where: str, step: str | None, said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        PLAN.target(where, step)


def test_a_branch_and_a_step_elsewhere_of_one_name_must_be_told_apart() -> None:
    plan = Plan({"main": ("red",), "red": ("a",)})
    with pytest.raises(BadArguments, match="'red' is a branch and a step"):
        plan.target("red")
    assert plan.target("red", "a") == "red/a"


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=4, unique=True).map(tuple), min_size=1, max_size=4))
def test_a_plan_is_read_as_it_was_stored_and_named_by_what_it_says(branches: dict[str, tuple[str, ...]]) -> None:
    plan = Plan(branches)
    assert read_plan(plan.text) == plan
    assert read_plan(plan.text).digest == plan.digest
    assert Plan({**branches, "one more": ("a",)}).digest != plan.digest


def test_the_order_of_branches_does_not_change_a_plan() -> None:
    assert Plan({"main": ("a",), "red": ("b",)}).digest == Plan({"red": ("b",), "main": ("a",)}).digest
    assert Plan({"main": ("a", "b")}).digest != Plan({"main": ("b", "a")}).digest
