"""Recording a failure never fails, whatever the exception does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework.errortext import MAX_MESSAGE, MAX_TRACEBACK, clean, describe, shown
from piecework.job import ErrorInfo

SLACK = 60  # the sentence in the middle of what was cut


def raised(error: BaseException) -> BaseException:
    """The exception with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def assert_keepable(info: ErrorInfo) -> None:
    """Bounded, valid UTF-8, without NUL."""
    for text, limit in ((info.type, 200), (info.message, MAX_MESSAGE), (info.traceback, MAX_TRACEBACK)):
        assert type(text) is str
        assert "\x00" not in text
        # An escape may be up to ten characters for one.
        assert len(text) <= 10 * limit + SLACK
        text.encode("utf-8")


def test_an_error_is_told_by_class_message_and_traceback() -> None:
    info = describe(raised(ValueError("bad body")))
    assert (info.type, info.message) == ("ValueError", "bad body")
    assert info.traceback.startswith("Traceback (most recent call last):\n")
    assert "in raised" in info.traceback


class Own(Exception):
    pass


def test_a_class_of_the_users_is_told_with_its_module() -> None:
    assert describe(Own()).type == f"{__name__}.Own"


def test_an_error_without_a_traceback_has_none() -> None:
    assert describe(ValueError("x")).traceback == ""


def test_the_cause_is_told_too() -> None:
    try:
        try:
            raise KeyError("the inner one")
        except KeyError as error:
            raise RuntimeError("the outer one") from error
    except RuntimeError as caught:
        info = describe(caught)
    assert info.message == "the outer one"
    assert "the inner one" in info.traceback


class Broken(Exception):
    def __init__(self, how: BaseException | object) -> None:
        self.how = how

    def __str__(self) -> str:
        if isinstance(self.how, BaseException):
            raise self.how
        return self.how  # type: ignore[return-value]

    __repr__ = __str__


@pytest.mark.parametrize("how", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), RecursionError(), None, 7, b"x"])
def test_a_broken_str_is_survived(how: object) -> None:
    info = describe(raised(Broken(how)))
    assert_keepable(info)
    assert info.message
    assert info.type.endswith("Broken")


def test_a_broken_str_of_the_cause_is_survived() -> None:
    try:
        try:
            raise Broken(ValueError("x"))
        except Broken as error:
            raise RuntimeError("outer") from error
    except RuntimeError as caught:
        info = describe(caught)
    assert info.message == "outer"
    assert_keepable(info)


class Text(str):
    def replace(self, *args: object) -> str:
        raise ValueError("a str that bites")

    __len__ = encode = replace  # type: ignore[assignment]


def test_a_str_subclass_that_bites_is_survived() -> None:
    assert_keepable(describe(raised(Broken(Text("x")))))


class Odd(type):
    def __getattribute__(cls, name: str) -> object:
        if name in ("__qualname__", "__module__"):
            raise ValueError("no name")
        return super().__getattribute__(name)


def test_a_class_without_a_usable_name_is_survived() -> None:
    kind = Odd("Odd", (Exception,), {})
    assert_keepable(describe(raised(kind("x"))))


def test_an_exception_group_is_told_with_its_parts() -> None:
    parts = [raised(ValueError("one")), ExceptionGroup("inner", [raised(KeyError("two"))])]
    info = describe(raised(ExceptionGroup("two things", parts)))
    assert info.type == "ExceptionGroup"
    assert info.message.startswith("two things")
    assert "ValueError: one" in info.traceback
    assert "KeyError: 'two'" in info.traceback
    assert info.traceback.count("in raised") == 3  # of the group, and of both that were raised
    assert_keepable(info)


def test_a_group_among_the_causes_is_told_with_its_parts() -> None:
    try:
        raise RuntimeError("the whole batch") from ExceptionGroup("several", [raised(ValueError("the one"))])
    except RuntimeError as caught:
        info = describe(caught)
    assert "ValueError: the one" in info.traceback
    assert not info.traceback.rstrip().endswith("RuntimeError: the whole batch")  # that is its message


def test_notes_are_told() -> None:
    error = ValueError("bad body")
    error.add_note("while it read " + "the third file")
    info = describe(raised(error))
    assert info.message == "bad body"
    assert info.traceback.rstrip().endswith("while it read the third file")


def test_a_chain_has_one_heading_for_each_of_its_errors() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as caught:
        info = describe(caught)
    assert info.traceback.count("Traceback (most recent call last)") == 2


def test_the_long_message_of_a_cause_leaves_room_for_the_rest() -> None:
    try:
        try:
            raise KeyError("x" * 5_000_000)
        except KeyError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as caught:
        info = describe(caught)
    assert "direct cause" in info.traceback
    assert_keepable(info)


def test_a_deep_recursion_is_told_in_bounds() -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1) + 1

    try:
        deeper(0)
    except RecursionError as error:
        info = describe(error)
    assert info.type == "RecursionError"
    assert_keepable(info)


def test_a_long_chain_of_causes_is_told_in_bounds() -> None:
    error: Exception = ValueError("the first")
    for n in range(200):
        try:
            raise RuntimeError(f"number {n} " + "x" * 500) from error
        except RuntimeError as caught:
            error = caught
    assert_keepable(describe(error))


def test_of_a_long_message_the_beginning_and_the_end_are_kept() -> None:
    info = describe(ValueError("begin" + "x" * 100_000 + "end"))
    assert info.message.startswith("begin")
    assert info.message.endswith("end")
    assert "98,008 characters left out" in info.message
    assert len(info.message) <= MAX_MESSAGE + SLACK


@given(st.text(st.characters(exclude_categories=())))
def test_any_message_can_be_kept(text: str) -> None:
    assert_keepable(describe(raised(ValueError(text))))


@given(st.text(st.characters(exclude_categories=()), max_size=300), st.integers(20, 200))
def test_clean_text_is_bounded_and_has_no_nul_and_no_surrogate(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert len(cleaned) <= 10 * limit + SLACK


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=100))
def test_clean_leaves_what_is_clean(text: str) -> None:
    assert clean(text, 100) == text


def test_whatever_a_value_is_the_beginning_of_it_is_shown() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown({"x": "y" * 1000}, 10) == "{'x': 'yyy"
    assert (shown(deep), shown(Broken(ValueError("x")))) == ("a list", "a Broken")
