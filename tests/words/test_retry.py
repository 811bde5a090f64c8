"""Retry policies: how long a failed attempt waits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import exponential, fixed
from piecework.errors import BadOption
from piecework.retry import RetryPolicy

seconds = st.floats(0, 1e9)
policies = st.builds(exponential, seconds, factor=st.floats(1, 1e6), ceiling=seconds, jitter=st.floats(0, 1))
attempts = st.integers(1, 10**18)
draws = st.floats(0, 1, exclude_max=True)


@given(policies, attempts, draws)
def test_a_delay_is_finite_never_negative_and_never_above_the_ceiling(
    policy: RetryPolicy, attempt: int, draw: float
) -> None:
    delay = policy.delay(attempt, draw)
    assert math.isfinite(delay)
    assert 0 <= delay <= policy.ceiling


@given(policies, attempts, draws)
def test_jitter_takes_away_at_most_its_share(policy: RetryPolicy, attempt: int, draw: float) -> None:
    most = policy.delay(attempt, 0.0)
    assert most * (1 - policy.jitter) <= policy.delay(attempt, draw) * (1 + 1e-12)
    assert policy.delay(attempt, draw) <= most


@given(policies, st.integers(1, 5000), st.integers(0, 5000))
def test_without_jitter_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int, more: int) -> None:
    assert policy.delay(attempt, 0.0) <= policy.delay(attempt + more, 0.0)


@given(st.floats(1, 1e6), attempts)
def test_a_policy_that_begins_with_nothing_never_waits(factor: float, attempt: int) -> None:
    assert exponential(0, factor=factor).delay(attempt, 0.0) == 0


@given(seconds, attempts)
def test_a_fixed_policy_always_waits_the_same(wait: float, attempt: int) -> None:
    assert fixed(wait).delay(attempt, 0.5) == wait


@pytest.mark.parametrize(("attempt", "wait"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (10**9, 3600)])
def test_an_exponential_policy_doubles_up_to_its_ceiling(attempt: int, wait: float) -> None:
    assert exponential(60, jitter=0).delay(attempt, 0.0) == wait


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    policy = exponential(100, jitter=0.25)
    assert {policy.delay(1, draw) for draw in (0.0, 0.25, 0.5)} == {100, 93.75, 87.5}


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "5", None, True, 1 + 2j])
@pytest.mark.parametrize("name", ["first", "ceiling"])
def test_bad_seconds_are_refused_and_named(name: str, bad: object) -> None:
    with pytest.raises(BadOption, match=name):
        exponential(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [0.5, 0, -1, math.nan, math.inf, "2", None, True])
def test_a_bad_factor_is_refused_and_named(bad: object) -> None:
    with pytest.raises(BadOption, match="factor"):
        exponential(factor=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf, "0", None, True])
def test_a_bad_jitter_is_refused_and_named(bad: object) -> None:
    with pytest.raises(BadOption, match="jitter"):
        exponential(jitter=bad)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="jitter"):
        fixed(1, jitter=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "5", None, True])
def test_fixed_refuses_bad_seconds(bad: object) -> None:
    with pytest.raises(BadOption, match="seconds"):
        fixed(bad)  # type: ignore[arg-type]
