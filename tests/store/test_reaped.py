"""Which workers of a session are over, as ranges of their numbers."""

from __future__ import annotations

import random

import pytest

from piecework.errors import UsageError
from piecework.store.reaped import NONE, Worker, is_over, numbered, with_one_more


def ranges_of(*numbers: int) -> str:
    ranges = NONE
    for number in numbers:
        ranges = with_one_more(ranges, number)
    return ranges


def test_numbers_in_order_are_one_range() -> None:
    assert ranges_of(*range(1, 1001)) == "[[1,1000]]"


def test_a_worker_that_lives_is_between_two() -> None:
    assert ranges_of(1, 2, 4, 5, 6, 9) == "[[1,2],[4,6],[9,9]]"
    assert ranges_of(1, 2, 4, 5, 6, 9, 3) == "[[1,6],[9,9]]"


def test_in_any_order_and_more_than_once() -> None:
    chance = random.Random(7)
    for _ in range(200):
        numbers = [chance.randrange(25) for _ in range(chance.randrange(30))]
        ranges = ranges_of(*numbers)
        assert [n for n in range(26) if is_over(ranges, n)] == sorted(set(numbers))
        assert ranges == ranges_of(*sorted(set(numbers)))


def test_there_are_never_more_than_one_range_more_than_workers() -> None:
    """However often they are replaced."""
    chance, living, ranges = random.Random(7), [1, 2, 3, 4], NONE
    for number in range(5, 2000):
        ranges = with_one_more(ranges, living.pop(chance.randrange(4)))
        living.append(number)
        assert ranges.count("[") - 1 <= 5
    assert not any(is_over(ranges, number) for number in living)


@pytest.mark.parametrize("name", ["", "w", "w.", ".1", "w.-1", "w.1a", "w.²", "w. 1"])
def test_what_is_no_workers_name(name: str) -> None:
    with pytest.raises(UsageError, match="session's id, a dot and a number"):
        numbered(name)


@pytest.mark.parametrize("name", ["w", "w.", "w.-1", "w.one"])
def test_who_has_no_number_is_not_over(name: str) -> None:
    """It asks for work in vain anyway, or in a session that somebody made by hand."""
    assert not is_over("[[0,9]]", Worker.named(name).number)


def test_a_workers_name() -> None:
    assert numbered("w.12") == Worker("w", 12)
    assert numbered("a-b.0") == Worker("a-b", 0)
