"""What a step is given: its globals, what it may say of the way on, and what is stored of that."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.documents import with_changes
from piecework.errors import BadArguments, BadOption, NotSerializable, TooLarge, UsageError
from piecework.job import Change, Wait
from piecework.plan import Place, Plan
from piecework.stepping import Step, make_wait
from piecework.terms import term

PLAN = Plan({"main": ("charge", "email"), "red": ("set_up_red", "email")})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=3)


def a_step(globals: dict[str, Any] | None = None, **more: Any) -> Step[Any]:
    return Step("op", Place("main", "charge", 3), PLAN, json.dumps(globals or {}), attempt=2, **more)


def test_a_step_knows_where_it_is() -> None:
    step = a_step()
    assert (step.operation_id, step.name, step.branch, step.visit, step.attempt) == ("op", "charge", "main", 3, 2)
    assert repr(step) == "<step main/charge of operation op>"


# ── globals ──────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_changed_is_not_stored() -> None:
    step = a_step({"a": [1], "b": 2})
    assert (step["a"], step["b"], step.globals) == ([1], 2, {"a": [1], "b": 2})
    step["b"] = 2
    assert step.changes() == ()


def test_a_list_that_is_changed_in_place_is_stored() -> None:
    step = a_step({"a": [1], "o": {"x": {"y": 1}}})
    step["a"].append(2)
    step["o"]["x"]["y"] = 2
    assert {change.key: change.value for change in step.changes()} == {"a": "[1,2]", "o": '{"x":{"y":2}}'}


def test_a_list_that_was_set_and_is_spoilt_later_is_refused_at_the_end() -> None:
    step = a_step()
    step["a"] = items = [1]
    items.append(object())
    with pytest.raises(NotSerializable, match="step\\['a'\\]"):
        step.changes()


def test_a_global_that_is_taken_away_is_gone_and_may_come_again() -> None:
    step = a_step({"a": 1, "b": 2})
    del step["a"]
    assert ("a" in step, list(step), step.get("a", 7)) == (False, ["b"], 7)
    with pytest.raises(KeyError):
        step["a"]
    with pytest.raises(KeyError):
        del step["a"]
    assert step.changes() == (Change("a", None),)
    step["a"] = 3
    assert step.changes() == (Change("a", "3", ("a=3",)),)


def test_what_was_set_and_taken_away_again_leaves_nothing() -> None:
    step = a_step()
    step["a"] = 1
    del step["a"]
    assert step.changes() == ()


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.dictionaries(KEYS, VALUES, max_size=4), st.sets(KEYS, max_size=3))
def test_the_changes_make_of_what_was_stored_what_the_step_sees(
    stored: dict[str, Any], new: dict[str, Any], gone: set[str]
) -> None:
    step = a_step(stored)
    step.update(new)
    for key in gone & set(step):
        del step[key]
    changes = step.changes()
    assert (
        json.loads(with_changes(json.dumps(stored), changes))
        == step.globals
        == {key: value for key, value in {**stored, **new}.items() if key not in gone}
    )
    assert all(
        change.value is None or change.terms == (term(change.key, json.loads(change.value)),) for change in changes
    )


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0", "\ud800", 7, None])
def test_a_name_that_cannot_be_stored_is_refused(key: Any) -> None:
    with pytest.raises(BadArguments, match="a global's name"):
        a_step()[key] = 1


@pytest.mark.parametrize("value", [float("nan"), object(), (1,), {1: 2}, {1}, datetime.now(UTC), "\ud800", b"x"])
def test_a_value_that_would_not_arrive_is_refused(value: Any) -> None:
    step = a_step()
    with pytest.raises(NotSerializable):
        step["a"] = value
    assert step.changes() == ()


def test_globals_have_a_bound_together() -> None:
    step = a_step({"a": "x" * 50}, limit=100)
    step["b"] = "y" * 50
    with pytest.raises(TooLarge, match="the operation's globals would take"):
        step.changes()
    del step["a"]
    assert len(step.changes()) == 2


def test_what_was_received_is_a_global_that_is_stored() -> None:
    step = a_step({"a": 1})
    step.preset("approval", '{"by":"ann"}')
    assert step["approval"] == {"by": "ann"}
    assert step.changes() == (Change("approval", '{"by":"ann"}', ("approval:",)),)


# ── a declared state ─────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass
class Data:
    n: int
    when: datetime | None = None
    tags: list[str] = dataclasses.field(default_factory=list)


def test_a_state_is_read_typed_and_only_what_changed_is_stored() -> None:
    step: Step[Data] = a_step({"n": 1, "when": "2030-01-01T00:00:00Z", "tags": ["a"], "approval": 3}, state=Data)
    assert step.state == Data(1, datetime(2030, 1, 1, tzinfo=UTC), ["a"])
    step.state.tags.append("b")
    assert step.changes() == (Change("tags", '["a","b"]', ("tags:",)),)


def test_a_state_that_is_spoilt_is_refused() -> None:
    step: Step[Data] = a_step({"n": 1}, state=Data)
    step.state.n = "one"  # type: ignore[assignment]
    with pytest.raises(BadArguments, match="do not fit the state Data: Expected `int`, got `str`"):
        step.changes()


def test_a_global_that_does_not_fit_the_state_is_refused_if_it_is_the_steps_own() -> None:
    """Not one that was there before, under another state: nobody could take back what was done before, else."""
    step: Step[Data] = a_step({"n": 1}, state=Data)
    step["n"] = "one"
    with pytest.raises(BadArguments, match="do not fit the state Data: Expected `int`, got `str`"):
        step.changes()
    del step["n"]
    with pytest.raises(BadArguments, match="missing required field `n`"):
        step.changes()
    step = a_step({"n": "one"}, state=Data)
    step["noted"] = True
    assert [change.key for change in step.changes()] == ["noted"]


def changed(step: Step[Any]) -> dict[str, Any]:
    return {change.key: json.loads(change.value or "null") for change in step.changes()}


def test_a_field_that_is_set_in_two_ways_to_two_values_is_refused() -> None:
    step: Step[Data] = a_step({"n": 1}, state=Data)
    step.state.n = 2
    step["n"] = 3
    with pytest.raises(BadArguments, match=r"has set step\.state\.n and step\['n'\], to different values"):
        step.changes()
    step["n"] = 2  # the same in both ways
    assert changed(step)["n"] == 2


def test_a_field_that_is_taken_away_by_name_and_set_in_the_state_is_refused() -> None:
    step: Step[Data] = a_step({"n": 1, "tags": ["a"]}, state=Data)
    step.state.tags.append("b")
    del step["tags"]
    with pytest.raises(BadArguments, match="in one of the two ways"):
        step.changes()


def test_the_state_has_what_was_set_by_name_before_and_is_set_from_there_also_back() -> None:
    step: Step[Data] = a_step({"n": 1, "tags": ["a"]}, state=Data)
    step["n"] = 2
    step["tags"].append("b")
    assert (step.state.n, step.state.tags) == (2, ["a", "b"])
    step.state.n = 1  # as it was stored
    assert "n" not in changed(step)
    assert changed(step)["tags"] == ["a", "b"]


def test_what_is_set_by_name_after_the_state_was_looked_at_stays() -> None:
    step: Step[Data] = a_step({"n": 1, "tags": ["a"]}, state=Data)
    assert (step.state.n, step["tags"]) == (1, ["a"])
    step["n"] = 2
    step["beside"] = 3
    step.state.tags.append("b")  # which `step["tags"]` has not seen, and has not changed
    assert {key: value for key, value in changed(step).items() if key != "when"} == {
        "n": 2,
        "beside": 3,
        "tags": ["a", "b"],
    }


def test_an_operation_without_a_state_says_so() -> None:
    with pytest.raises(UsageError, match="declares no state"):
        a_step().state  # noqa: B018


# ── the way on ───────────────────────────────────────────────────────────────────────────────────


def email(step: Step[Any]) -> None: ...


@pytest.mark.parametrize(
    ("target", "step", "expected"),
    [
        ("red", None, "red/set_up_red"),
        ({"red": "email"}, None, "red/email"),
        ({"main": email}, None, "main/email"),
        ("main", email, "main/email"),
        ("charge", None, "main/charge"),
    ],
)
def test_a_jump_is_kept_until_the_end(target: Any, step: Any, expected: str) -> None:
    made = a_step(names=lambda given: "email" if given is email else None)
    made.jump_to("red")
    made.jump_to(target, step)
    assert made.jump == expected


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("emial", "did you mean 'email'"),
        (email, "is in main and red"),
        ({}, "a dict must name one branch and its step, not 0"),
        ({"a": 1, "b": 2}, "not 2"),
        (["red"], "is neither a branch nor a step"),
        (None, "is neither a branch nor a step"),
        (7, "is neither a branch nor a step"),
    ],
)
def test_a_jump_to_nowhere_is_refused_and_changes_nothing(target: Any, said: str) -> None:
    made = a_step(names=lambda given: "email" if given is email else None)
    with pytest.raises(BadArguments, match=said):
        made.jump_to(target)
    assert made.jump is None


class Text(str):
    __slots__ = ()


def test_names_are_kept_as_plain_text() -> None:
    made = a_step({"gone": 1, "list": []})
    made[Text("list")].append(1)
    made[Text("new")] = 1
    del made[Text("gone")]
    made.jump_to(Text("red"))
    made.wait_for(Text("ok"), timeout=1, otherwise=Text("red"), into=Text("by"))
    assert made.wait is not None
    kept = [change.key for change in made.changes()]
    assert sorted(kept) == ["gone", "list", "new"]
    names = [*kept, made.jump, made.wait.name, made.wait.into, made.wait.otherwise]
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize(("target", "step"), [({"main": "email"}, "charge"), ({"red": None}, None)])
def test_a_dict_names_both_branch_and_step(target: Any, step: Any) -> None:
    made = a_step()
    with pytest.raises(BadArguments, match="a dict names one branch and its step"):
        made.jump_to(target, step)
    assert made.jump is None


def test_a_step_says_how_long_to_wait_before_the_next() -> None:
    step = a_step()
    step.sleep(timedelta(minutes=1))
    assert step.pause == 60
    moment = datetime.now(UTC)
    step.sleep(moment)
    assert step.pause == moment
    for wrong in (-1, float("nan"), "soon", True):
        with pytest.raises(BadOption):
            step.sleep(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="aware"):
        step.sleep(moment.replace(tzinfo=None))
    assert step.pause == moment


def test_a_step_says_what_to_wait_for() -> None:
    step = a_step()
    step.wait_for("ok", timeout=60, otherwise="red", into="yes")
    assert step.wait == Wait("ok", 60.0, "yes", "red/set_up_red")
    for said_of_it, said in [
        ({"otherwise": "red"}, "say timeout="),
        ({"timeout": 1, "otherwise": "zzz"}, "no branch or step 'zzz'"),
        ({"timeout": 1, "otherwise": 7}, "must be the name"),
        ({"timeout": -1}, "timeout must be seconds"),
        ({"into": ""}, "into must be text"),
    ]:
        with pytest.raises(UsageError, match=said):
            step.wait_for("other", **said_of_it)
    assert step.wait.name == "ok"


def test_a_wait_that_is_declared_before_its_plan_keeps_its_words() -> None:
    assert make_wait("ok", 5, "late", None, None) == Wait("ok", 5.0, "ok", "late")


class Price(msgspec.Struct):
    """A float where an int was stored, and a field that older operations do not have."""

    amount: float
    currency: str = "eur"


def test_a_state_that_is_only_read_changes_nothing_of_what_is_stored() -> None:
    step: Step[Price] = a_step({"amount": 5}, state=Price)
    assert step.state == Price(5.0)
    assert [(change.key, change.value) for change in step.changes()] == [("currency", '"eur"')]


def test_a_step_that_sets_nothing_may_read_its_state() -> None:
    step: Step[Price] = a_step({"amount": 5}, state=Price, sealed="it yields pieces")
    assert step.state == Price(5.0)
    assert step.own_changes() == ()
    step.state.amount = 6.0
    assert [change.key for change in step.own_changes()] == ["amount"]
