"""Options: each bad value is refused where it is given, and named; unknown options come with a suggestion."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from piecework import Piecework, exponential, fixed
from piecework.errors import BadOption
from piecework.options import CallOptions, TaskOptions, call_options, effective, overrides_of, task_options
from piecework.retry import RetryPolicy

NAN, INF = math.nan, math.inf

GOOD: list[tuple[str, Any, Any]] = [
    ("queue", "mail", "mail"),
    ("queue", "a.b:c-d_E9", "a.b:c-d_E9"),
    ("queue", "x" * 100, "x" * 100),
    ("priority", 0, 0),
    ("priority", -1_000_000, -1_000_000),
    ("priority", 1_000_000, 1_000_000),
    ("attempts", 1, 1),
    ("attempts", 1_000_000, 1_000_000),
    ("retry", exponential(60), exponential(60)),
    ("retry", 5, fixed(5.0)),
    ("retry", 0, fixed(0.0)),
    ("retry", timedelta(minutes=1), fixed(60.0)),
    ("timeout", 30, 30.0),
    ("timeout", timedelta(seconds=1.5), 1.5),
    ("timeout", None, None),
]

BAD: list[tuple[str, Any]] = [
    *(
        ("queue", bad)
        for bad in ("", "a b", "a/b", "a\n", "ü", "x" * 101, "\x1b[31m", "a,b", 7, None, b"mail", ["mail"])
    ),
    *(("priority", bad) for bad in (1.5, "1", True, None, 1_000_001, -1_000_001, NAN, Decimal(1))),
    *(("attempts", bad) for bad in (0, -1, 1.5, "7", True, None, 1_000_001, INF)),
    *(("retry", bad) for bad in (-1, NAN, INF, "5", True, None, [1, 2], timedelta(seconds=-1), int)),
    *(("timeout", bad) for bad in (0, -1, NAN, INF, "30", True, timedelta(), timedelta(seconds=-1), 10**11)),
]

BAD_OF_CALLS: list[tuple[str, Any]] = [
    *(
        ("at", bad)
        for bad in (datetime(2030, 1, 1), "2030-01-01", 0, 1e9, True, timedelta(1), datetime(2030, 1, 1).date())
    ),
    *(
        (name, bad)
        for name in ("at", "expires")
        for bad in (
            datetime(9999, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
            datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
            datetime(2200, 1, 1, tzinfo=UTC),
        )
    ),
    *(("delay", bad) for bad in (-1, NAN, INF, "60", True, timedelta(seconds=-1), 10**11, timedelta.max)),
    *(("key", bad) for bad in ("", "x" * 501, "a\x00b", 7, b"k", True, "\ud800")),
    *(("on_duplicate", bad) for bad in ("ignore", None, True, "", 1)),
]


def ids(rows: list[Any]) -> list[str]:
    return [f"{row[0]}-{n}" for n, row in enumerate(rows)]


@pytest.mark.parametrize(("name", "value", "kept"), GOOD, ids=ids(GOOD))
def test_a_good_value_is_kept(name: str, value: Any, kept: Any) -> None:
    assert getattr(task_options({name: value}, "here"), name) == kept
    assert getattr(call_options({name: value}, CallOptions(), "here"), name) == kept


@pytest.mark.parametrize(("name", "value"), BAD, ids=ids(BAD))
def test_a_bad_value_of_a_task_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(BadOption) as refused:
        task_options({name: value}, "the task mail")
    assert "the task mail" in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize(("name", "value"), BAD + BAD_OF_CALLS, ids=ids(BAD + BAD_OF_CALLS))
def test_a_bad_value_of_a_call_is_refused_and_named(name: str, value: Any) -> None:
    with pytest.raises(BadOption) as refused:
        call_options({name: value}, CallOptions(), "mail.using")
    assert "mail.using" in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.parametrize("policy", [RetryPolicy(-5), RetryPolicy(NAN), RetryPolicy(1, 0.5), RetryPolicy(jitter=7)])
def test_a_policy_that_was_made_by_hand_is_checked_too(policy: RetryPolicy) -> None:
    with pytest.raises(BadOption, match="retry"):
        task_options({"retry": policy}, "here")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("prioritet", "priority"),
        ("que", "queue"),
        ("attempt", "attempts"),
        ("retries", "retry"),
        ("time_out", "timeout"),
    ],
)
def test_an_unknown_option_of_a_task_is_refused_with_a_suggestion(given: str, meant: str) -> None:
    with pytest.raises(BadOption, match=f"unknown option '{given}'; did you mean '{meant}'"):
        task_options({given: 1}, "here")


@pytest.mark.parametrize(("given", "meant"), [("dealy", "delay"), ("keys", "key"), ("inside_within", "within")])
def test_an_unknown_option_of_a_call_is_refused_with_a_suggestion(given: str, meant: str) -> None:
    with pytest.raises(BadOption, match=f"unknown option '{given}'; did you mean '{meant}'"):
        call_options({given: 1}, CallOptions(), "here")


def test_an_unknown_option_that_is_like_no_other_is_refused_with_the_known_ones() -> None:
    known = (
        "queue, priority, attempts, retry, timeout, expires, on_missing, retry_on, give_up_on, pool, grace, transaction, "
        "tags, identity, one_per_identity"
    )
    with pytest.raises(BadOption, match=rf"unknown option 'xyzzy' \(known: {known}\)"):
        task_options({"xyzzy": 1}, "here")


@pytest.mark.parametrize("name", ["at", "delay", "key", "within", "on_duplicate"])
def test_what_only_a_call_may_say_is_no_option_of_a_task(name: str) -> None:
    with pytest.raises(BadOption, match=name):
        task_options({name: None}, "here")


def test_at_and_delay_together_are_refused() -> None:
    with pytest.raises(BadOption, match="not both"):
        call_options({"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, CallOptions(), "here")


def test_at_is_the_same_moment_in_every_zone() -> None:
    moment = datetime(2030, 1, 1, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=-8)))
    for at in (moment, elsewhere):
        assert call_options({"at": at}, CallOptions(), "here").run_at == moment.timestamp()


def test_a_later_using_overrides_an_earlier_one_and_keeps_the_rest() -> None:
    first = call_options({"queue": "a", "priority": 1, "delay": 60}, CallOptions(), "here")
    second = call_options({"queue": "b", "at": datetime(2030, 1, 1, tzinfo=UTC)}, first, "here")
    assert (second.queue, second.priority, second.delay) == ("b", 1, None)
    third = call_options({"delay": 1}, second, "here")
    assert (third.delay, third.run_at) == (1.0, None)


def test_defaults_are_what_the_documentation_says() -> None:
    assert task_options({}, "here") == TaskOptions("default", 0, 10, exponential(5), None)


# ── what travels with a job ──────────────────────────────────────────────────────────────────────


def test_a_call_without_options_stores_none() -> None:
    assert overrides_of(call_options({"queue": "a", "priority": 1, "delay": 1}, CallOptions(), "here")) is None


@pytest.mark.parametrize("given", [{"attempts": 3}, {"retry": exponential(7, factor=3)}, {"timeout": 1.5}])
def test_what_a_call_overrides_arrives_in_the_worker(given: dict[str, Any]) -> None:
    own = TaskOptions("mail", 5, 7, fixed(1), 30.0)
    text = overrides_of(call_options(given, CallOptions(), "here"))
    found = effective(own, text)
    for name in TaskOptions.__struct_fields__:
        assert getattr(found, name) == given.get(name, getattr(own, name))


@pytest.mark.parametrize("text", ["", "null", "[]", '{"attempts": "x"}', "{"])
def test_stored_options_that_cannot_be_read_are_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        effective(TaskOptions(), text)


# ── at the door ──────────────────────────────────────────────────────────────────────────────────


def task_of(app: Piecework) -> Any:
    @app.task
    def mail(n: int) -> None: ...

    return mail


@pytest.fixture
def app() -> Piecework:
    return Piecework("sqlite://:memory:")


@pytest.mark.parametrize("given", [{"queue": "a b"}, {"quueue": "a"}, {"attempts": 0}])
def test_a_bad_option_of_a_decorator_is_told_where_it_is_given(app: Piecework, given: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=next(iter(given))):
        app.task(**given)
    with pytest.raises(BadOption, match=next(iter(given))):
        app.split(**given)
    assert len(app.registry) == 0


@pytest.mark.parametrize("given", [{"queue": "a b"}, {"quueue": "a"}, {"key": ""}])
def test_a_bad_option_of_a_call_is_told_and_nothing_is_stored(app: Piecework, given: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=next(iter(given))):
        task_of(app).using(**given)
    assert app.jobs.counts() == {}


def test_one_unique_key_cannot_be_carried_by_many_jobs(app: Piecework) -> None:
    with pytest.raises(BadOption, match="unique key"):
        task_of(app).using(key="k").later_many([(1,), (2,)])


def test_a_piece_takes_no_connection(app: Piecework) -> None:
    with pytest.raises(BadOption, match="within"):
        task_of(app).using(within=object()).piece(1)


def test_a_piece_answers_to_no_on_duplicate(app: Piecework) -> None:
    """Its key is its key in its batch, where nothing is raised; an option without an effect is a mistake."""
    with pytest.raises(BadOption, match="on_duplicate"):
        task_of(app).using(key="k", on_duplicate="raise").piece(1)


@pytest.mark.parametrize("bad", ["explode", "", None, True, 1])
def test_a_bad_policy_is_refused_with_the_good_ones(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadOption, match="fail_fast, finish, compose"):
        app.split(on_failure=bad)
    with pytest.raises(BadOption, match="fail_fast, finish, compose"):
        app.batch(on_failure=bad)


@pytest.mark.parametrize("given", [{"queue": "a b"}, {"priority": 1.5}, {"queue": ""}])
def test_a_bad_option_of_a_compose_is_refused(app: Piecework, given: dict[str, Any]) -> None:
    @app.split
    def everything():  # type: ignore[no-untyped-def]
        yield from ()

    with pytest.raises(BadOption, match=next(iter(given))):
        everything.compose(**given)


@pytest.mark.parametrize("bad", [0, -1, 1.5, "4", True, None, 10_001])
def test_a_bad_concurrency_is_refused(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadOption, match="concurrency"):
        app.worker(concurrency=bad)


@pytest.mark.parametrize("bad", [["a b"], [""], "mail", []])
def test_bad_queues_of_a_worker_are_refused(app: Piecework, bad: Any) -> None:
    """A bare string is iterable: it would become the queues m, a, i, l."""
    with pytest.raises(BadOption, match="queues"):
        app.worker(queues=bad)


@pytest.mark.parametrize("policy", ["fail", "cancel", "retry"])
def test_what_becomes_of_a_job_whose_row_is_gone_travels_with_the_call(policy: str) -> None:
    options = call_options({"on_missing": policy}, CallOptions(), "here")
    assert effective(TaskOptions(on_missing="fail"), overrides_of(options)).on_missing == policy
    assert effective(TaskOptions(on_missing=policy), None).on_missing == policy
    assert effective(TaskOptions(on_missing=policy), overrides_of(CallOptions(attempts=1))).on_missing == policy


@pytest.mark.parametrize("bad", ["explode", None, 1, "Fail"])
def test_an_unknown_policy_for_rows_that_are_gone_is_refused(bad: object) -> None:
    with pytest.raises(BadOption, match="here: on_missing must be 'fail', 'cancel' or 'retry'"):
        task_options({"on_missing": bad}, "here")


class SafeText(str):
    """As templates and web frameworks have it."""


def test_text_of_a_class_of_its_own_is_a_queue_and_a_key(app: Piecework) -> None:
    @app.task(queue=SafeText("mail"))
    def send(n: int) -> int:
        return n

    job = send.using(key=SafeText("k"), queue=SafeText("post")).later(1)
    assert send.using(key="k").later(2) == job == app.jobs.get(SafeText(job.id))
    assert (send.later(3).queue, app.jobs.where(key=SafeText("k")).first()) == ("mail", job)
