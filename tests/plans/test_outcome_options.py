"""Verdicts, rules for exceptions, pools and expiry: each bad value is refused where it is given, with what to do."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from piecework import Cancel, Fail, Piecework, Retry, Snooze, exponential, fixed
from piecework.errors import BadOption
from piecework.options import CallOptions, ExceptionRule, call_options, effective, overrides_of, task_options

MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "5", True, timedelta(seconds=-1), 10**11])
@pytest.mark.parametrize("verdict", [Retry, Snooze])
def test_a_time_that_cannot_be_is_refused_by_the_verdict(verdict: Any, bad: Any) -> None:
    with pytest.raises(BadOption, match=f"{verdict.__name__}: .* must be seconds|more than a hundred years"):
        verdict(bad)


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(BadOption, match=r"Snooze: until must be an aware datetime, such as datetime.now\(UTC\)"):
        Snooze(datetime(2030, 1, 1))


@pytest.mark.parametrize("make", [lambda r: Retry(1, r), lambda r: Snooze(1, r), Cancel, Fail])
@pytest.mark.parametrize("bad", [7, None, b"x", ValueError("x")])
def test_a_reason_that_is_no_text_is_refused(make: Any, bad: Any) -> None:
    with pytest.raises(BadOption, match="the reason must be text"):
        make(bad)


@pytest.mark.parametrize("make", [lambda r: Retry(1, r), lambda r: Snooze(1, r), Cancel, Fail])
def test_a_reason_is_made_fit_to_be_kept(make: Any) -> None:
    assert make("a\x00b\ud800").reason == "a\\x00b\\ud800"
    assert len(make("x" * 1_000_000).reason) < 2_100


def test_times_of_verdicts_are_kept_in_seconds() -> None:
    assert Retry().after is None
    assert Retry(timedelta(minutes=1)).after == 60.0
    assert Snooze(5).delay(1e9) == 5.0
    assert Snooze(MOMENT).delay(MOMENT.timestamp() - 9) == pytest.approx(9)
    assert Snooze(MOMENT).delay(MOMENT.timestamp() + 9) == 0.0


@pytest.mark.parametrize("name", ["retry_on", "give_up_on"])
@pytest.mark.parametrize("bad", ["ValueError", 7, None, int, [int], ["ValueError"], (ValueError, 7), ValueError("x")])
def test_what_is_no_exception_class_is_refused_and_named(name: str, bad: Any) -> None:
    with pytest.raises(BadOption, match=rf"mail: {name} must be (an exception class or several|exception classes)"):
        task_options({name: bad}, "mail")


def test_a_bad_policy_of_one_class_is_named_with_it() -> None:
    with pytest.raises(BadOption, match=r"mail: retry_on\[OSError\] must be exponential"):
        task_options({"retry_on": {OSError: "5"}}, "mail")


def test_rules_are_kept_in_their_order() -> None:
    given = {ConnectionError: 1, OSError: exponential(2)}
    assert task_options({"retry_on": given}, "mail").retry_on == (
        ExceptionRule(ConnectionError, fixed(1.0)),
        ExceptionRule(OSError, exponential(2)),
    )


@pytest.mark.parametrize("bad", ["processes", None, 1, True, ""])
def test_a_pool_that_does_not_exist_is_refused(bad: Any) -> None:
    with pytest.raises(BadOption, match="mail: pool must be 'thread' or 'process'"):
        task_options({"pool": bad}, "mail")


@pytest.mark.parametrize("bad", [-1, "5", None, math.nan, True])
def test_a_grace_that_cannot_be_is_refused(bad: Any) -> None:
    with pytest.raises(BadOption, match="mail: grace must be seconds"):
        task_options({"grace": bad}, "mail")


@pytest.mark.parametrize("bad", [0, -1, "5", True, math.inf, timedelta()])
def test_an_expiry_that_cannot_be_is_refused_of_tasks_and_calls(bad: Any) -> None:
    for check in (task_options, lambda given, where: call_options(given, CallOptions(), where)):
        with pytest.raises(BadOption, match="mail: expires"):
            check({"expires": bad}, "mail")


def test_a_naive_expiry_is_refused_and_a_moment_is_for_calls_only() -> None:
    with pytest.raises(BadOption, match="must be an aware datetime"):
        call_options({"expires": datetime(2030, 1, 1)}, CallOptions(), "mail")
    with pytest.raises(BadOption, match="mail: expires must be seconds"):
        task_options({"expires": MOMENT}, "mail")


@pytest.mark.parametrize("name", ["pool", "grace", "retry_on", "give_up_on"])
def test_what_only_a_task_may_say_is_no_option_of_a_call(name: str) -> None:
    with pytest.raises(BadOption, match=f"unknown option '{name}'"):
        call_options({name: "thread"}, CallOptions(), "mail.using")


def test_the_last_expiry_that_was_given_counts() -> None:
    first = call_options({"expires": MOMENT}, CallOptions(), "mail")
    second = call_options({"expires": 5}, first, "mail")
    assert (first.expires, first.expires_at) == (None, MOMENT.timestamp())
    assert (second.expires, second.expires_at) == (5.0, None)


def test_a_coroutine_cannot_be_run_by_a_process() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(BadOption, match=r"runs on the event loop; pool='process' takes a def"):
        Piecework("sqlite:///x.db").task(pool="process")(coroutine)  # type: ignore[call-overload]


def test_a_split_is_not_run_by_a_process() -> None:
    with pytest.raises(BadOption, match="give it to the tasks of its pieces"):
        Piecework("sqlite:///x.db").split(pool="process")  # type: ignore[call-overload]


# ── verdicts as values, and what `using` takes back ──────────────────────────────────────────────

VERDICTS = [Retry(5, "x"), Retry(), Snooze(5, "x"), Snooze(datetime(2030, 1, 1, tzinfo=UTC)), Cancel("x"), Fail("x")]


@pytest.mark.parametrize(
    "again", [copy.copy, lambda verdict: pickle.loads(pickle.dumps(verdict))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("verdict", VERDICTS, ids=repr)
def test_a_verdict_is_copied_and_travels_as_other_exceptions_do(verdict: Any, again: Any) -> None:
    other = again(verdict)
    assert type(other) is type(verdict)
    assert vars(other) == vars(verdict)


@pytest.mark.parametrize("kind", [Retry, Snooze])
@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_a_number_beyond_all_floats_is_no_time(kind: Any, value: int) -> None:
    with pytest.raises(BadOption, match="must be"):
        kind(value)


def test_a_moment_beyond_all_utc_is_no_time() -> None:
    with pytest.raises(BadOption, match="beyond"):
        Snooze(datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))))


@pytest.mark.parametrize("none", [{"timeout": None}, {"timeout": None, "attempts": 2}])
def test_a_call_may_take_the_tasks_timeout_away(none: dict[str, Any]) -> None:
    declared = task_options({"timeout": 30}, "here")
    travelling = overrides_of(call_options(none, CallOptions(), "here"))
    assert effective(declared, travelling).timeout is None
    assert effective(declared, overrides_of(call_options({"attempts": 2}, CallOptions(), "here"))).timeout == 30


def test_a_call_may_take_the_tasks_expiry_away(tmp_path: Path) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/jobs.db")

    @app.task(expires=30)
    def f() -> None: ...

    assert f.later().record().expires_at is not None
    assert f.using(expires=None).later().record().expires_at is None
    app.close()
