"""Outcomes as values: what a task says of its own run, returned or raised, in every place where it can be said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import books

from piecework import Cancel, Fail, Piece, Pieces, Piecework, Retry, Snooze, current, exponential, fixed
from piecework.clock import SystemClock
from piecework.engine.context import Running
from piecework.engine.runner import Runner
from piecework.job import Fetched
from piecework.options import task_options
from piecework.outcome import Again, Cancelled, Failed
from piecework.registry import Registry
from piecework.settle import settle
from piecework.testing.drain import drain


@pytest.fixture
def shelf() -> str:
    return "sqlite"  # what is judged here is the worker's own, whatever the store


SPLITTERS = ("def", "async def", "splitter", "compose")


def declare(app: Piecework, place: str, say: Callable[[], Any], how: str, **options: Any) -> Any:
    """A task that says a verdict in one of the places, by returning or by raising it."""

    def tell() -> Any:
        said = say()
        if how == "raised" and isinstance(said, BaseException):
            raise said
        return said

    if place == "async def":

        async def coroutine() -> Any:
            return tell()

        return app.task(name="t", **options)(coroutine)
    if place == "def":
        return app.task(name="t", **options)(tell)

    @app.task(name="piece")
    def piece(n: int) -> int:
        return n

    def splitter() -> Iterator[Piece[int]]:
        yield piece.piece(1)
        yield piece.piece(2)
        if place == "splitter":
            return tell()

    split = app.split(name="t", **options)(splitter)
    if place == "compose":

        @split.compose
        def join(pieces: Pieces[int]) -> Any:
            return tell()

    return split


everywhere = pytest.mark.parametrize("place", SPLITTERS)
both_ways = pytest.mark.parametrize("how", ["returned", "raised"])


@everywhere
@both_ways
def test_retry_spends_an_attempt_and_waits_as_long_as_it_says(app: Piecework, path: Path, place: str, how: str) -> None:
    runs: list[int] = []

    def say() -> Any:
        runs.append(current.attempt)
        return Retry(0, "not yet") if len(runs) < 3 else None

    job = declare(app, place, say, how, attempts=5, retry=3600).later()
    drain(app)
    assert job.state == "completed"
    assert runs == [1, 2, 3]
    lines = [line for line in job.attempts() if line.outcome == "retry"]
    assert [line.error.message for line in lines if line.error] == ["not yet"] * 2
    assert books(path) == []


@everywhere
@both_ways
def test_retry_at_the_last_attempt_fails_with_its_reason(app: Piecework, path: Path, place: str, how: str) -> None:
    job = declare(app, place, lambda: Retry(0, "never"), how, attempts=2).later()
    drain(app)
    assert (job.state, job.record().attempt) == ("failed", 2)
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("piecework.verdicts.Retry", "never")
    assert [line.outcome for line in job.attempts()] == ["retry", "failed"]
    assert books(path) == []


@everywhere
@both_ways
def test_snooze_leaves_the_attempt_unspent_however_often(app: Piecework, path: Path, place: str, how: str) -> None:
    runs: list[int] = []

    def say() -> Any:
        runs.append(current.attempt)
        return Snooze(0, "later") if len(runs) < 6 else None

    job = declare(app, place, say, how, attempts=1).later()
    drain(app)
    assert job.state == "completed"
    assert runs == [1] * 6
    assert [(line.outcome, line.reason) for line in job.attempts()] == [("snoozed", "later")] * 5
    if place in ("splitter", "compose"):
        assert app.jobs.where(task="piece", state="completed").count() == 2  # none was made twice
    assert books(path) == []


@both_ways
def test_snooze_until_a_moment_waits_for_it(app: Piecework, how: str) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    job = declare(app, "def", lambda: Snooze(until), how).later()
    assert drain(app) == 1
    assert (job.state, job.record().attempt) == ("available", 0)
    assert abs(job.record().run_at - until.timestamp()) < 0.5


@everywhere
@both_ways
def test_cancel_ends_the_job_as_cancelled_with_the_reason_kept(
    app: Piecework, path: Path, place: str, how: str
) -> None:
    job = declare(app, place, lambda: Cancel("the order was withdrawn"), how).later()
    drain(app)
    record = job.record()
    assert (record.state, record.reason) == ("cancelled", "the order was withdrawn")
    assert (record.stopped_by, record.error) == (None, None)
    assert books(path) == []


@everywhere
@both_ways
def test_fail_ends_the_job_whatever_attempts_are_left(app: Piecework, path: Path, place: str, how: str) -> None:
    job = declare(app, place, lambda: Fail("the card was refused"), how, attempts=9, retry=0).later()
    drain(app)
    assert (job.state, job.record().attempt) == ("failed", 1)
    assert job.error is not None
    assert job.error.message == "the card was refused"
    assert books(path) == []


@pytest.mark.parametrize(("policy", "state", "cancelled"), [("finish", "failed", 1), ("fail_fast", "failed", 1), ("compose", "completed", 1)])  # fmt: skip
def test_cancel_in_a_piece_counts_as_the_batchs_policy_says(
    app: Piecework, path: Path, policy: Any, state: str, cancelled: int
) -> None:
    @app.task(name="piece")
    def piece(n: int) -> int:
        if n == 1:
            raise Cancel("withdrawn")
        return n

    @app.split(name="whole", on_failure=policy)
    def whole() -> Iterator[Piece[int]]:
        for n in range(3):
            yield piece.using(priority=n).piece(n)

    @whole.compose
    def join(pieces: Pieces[int]) -> int:
        return pieces.failed

    job = whole.later()
    drain(app, concurrency=1)
    assert job.state == state
    counters = job.batch
    assert counters is not None
    assert counters.cancelled >= cancelled
    if state == "completed":
        assert job.result(timeout=0) == 1
    else:
        assert job.error is not None
        assert "withdrawn" in job.error.message
    assert books(path) == []


def test_a_snoozed_piece_holds_its_batch_open_and_is_counted_once(app: Piecework, path: Path) -> None:
    runs: list[int] = []

    @app.task(name="piece", attempts=1)
    def piece(n: int) -> int | Snooze:
        runs.append(n)
        return Snooze(0) if runs.count(n) < 3 else n

    @app.split(name="whole")
    def whole() -> Iterator[Piece[int]]:
        for n in range(5):
            yield piece.piece(n)

    @whole.compose
    def join(pieces: Pieces[int]) -> int:
        return sum(pieces.results())

    job = whole.later()
    drain(app)
    assert job.result(timeout=0) == 10
    assert len(runs) == 15
    assert books(path) == []


# ── results beside verdicts ──────────────────────────────────────────────────────────────────────


def union() -> str | Retry:
    return "text"


def optional() -> Optional[datetime] | Snooze:  # noqa: UP045 - as people write it
    return datetime(2026, 1, 1, tzinfo=UTC)


def annotated() -> Annotated[datetime | Cancel, "documented"]:
    return datetime(2026, 1, 1, tzinfo=UTC)


def several() -> int | Retry | Snooze | Cancel | Fail | None:
    return 7


def only() -> Fail:
    return Fail("always")


@pytest.mark.parametrize("function", [union, optional, annotated, several])
def test_a_return_annotation_may_name_verdicts_beside_the_result(app: Piecework, function: Any) -> None:
    job = app.task(name="t", attempts=1)(function).later()
    drain(app)
    assert job.result(timeout=0) == function()


def test_a_task_may_return_nothing_but_a_verdict(app: Piecework) -> None:
    job = app.task(name="t", attempts=5)(only).later()
    drain(app)
    assert (job.state, job.record().attempt) == ("failed", 1)


# ── policies per exception ───────────────────────────────────────────────────────────────────────


class Flaky(Exception):
    pass


class VeryFlaky(Flaky):
    pass


@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize(
    ("options", "error", "attempts"),
    [
        ({"retry_on": Flaky}, Flaky, 3),
        ({"retry_on": Flaky}, VeryFlaky, 3),
        ({"retry_on": Flaky}, ValueError, 1),
        ({"retry_on": (Flaky, ValueError)}, ValueError, 3),
        ({"retry_on": {Flaky: 0}}, Flaky, 3),
        ({"retry_on": {Flaky: 0}}, ValueError, 1),
        ({"give_up_on": Flaky}, VeryFlaky, 1),
        ({"give_up_on": Flaky}, ValueError, 3),
        ({"retry_on": Flaky, "give_up_on": VeryFlaky}, VeryFlaky, 1),
        ({"retry_on": Flaky, "give_up_on": VeryFlaky}, Flaky, 3),
        ({"retry_on": ()}, Flaky, 1),
        ({"give_up_on": BaseException}, KeyboardInterrupt, 1),
        ({"give_up_on": ()}, SystemExit, 3),
    ],
)
def test_exceptions_are_tried_again_or_given_up_as_the_task_says(
    app: Piecework, options: Any, error: type[BaseException], attempts: int, colour: str
) -> None:
    def raises() -> None:
        raise error("told")

    async def araises() -> None:
        raise error("told")

    job = app.task(name="t", attempts=3, retry=0, **options)(raises if colour == "def" else araises).later()
    drain(app)
    assert (job.state, job.record().attempt) == ("failed", attempts)


def test_a_mapping_gives_each_class_a_policy_of_its_own(app: Piecework) -> None:
    @app.task(name="t", attempts=9, retry=7, retry_on={VeryFlaky: 1000, Flaky: exponential(50, jitter=0), OSError: fixed(9)})  # fmt: skip
    def raises(which: str) -> None:
        raise {"very": VeryFlaky, "flaky": Flaky, "file": FileNotFoundError}[which]

    waits = {"very": 1000.0, "flaky": 50.0, "file": 9.0}
    jobs = {which: raises.later(which) for which in waits}
    drain(app)
    for which, wait in waits.items():
        assert jobs[which].record().run_at - jobs[which].attempts()[0].finished_at == pytest.approx(wait, abs=0.5)


class Denies(type):
    """Its classes say that nothing is theirs, and raise when they are asked."""

    def __subclasscheck__(cls, other: type) -> bool:
        raise RuntimeError("asked")

    def __instancecheck__(cls, other: object) -> bool:
        raise RuntimeError("asked")

    def __eq__(cls, other: object) -> bool:
        return cls is other

    def __hash__(cls) -> int:
        return 1


class Claims(type):
    """Its classes say that everything is theirs."""

    def __subclasscheck__(cls, other: type) -> bool:
        return True

    def __instancecheck__(cls, other: object) -> bool:
        return True


class ClaimsAll(Exception, metaclass=Claims):
    pass


def test_a_class_that_claims_every_exception_gets_none_but_its_own(app: Piecework) -> None:
    @app.task(name="t", attempts=3, retry=0, give_up_on=ClaimsAll)
    def raises() -> None:
        raise ValueError

    job = raises.later()
    drain(app)
    assert job.record().attempt == 3


def test_a_class_that_raises_when_asked_is_judged_by_its_true_line(app: Piecework) -> None:
    hostile: Any = Denies("Hostile", (Exception,), {})
    options = task_options({"retry_on": hostile}, "t")
    assert options.rule(hostile) is not None
    assert options.rule(ValueError) is None


# ── any verdict settles ──────────────────────────────────────────────────────────────────────────

reasons = st.text(max_size=3000) | st.text(alphabet="\x00\ud800\udfffa", max_size=20)
seconds = st.floats(0, 3e9) | st.integers(0, 3_000_000_000)
moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))
verdicts = st.one_of(
    st.builds(Retry, st.none() | seconds, reasons),
    st.builds(Snooze, seconds | moments | st.timedeltas(timedelta(0), timedelta(days=9999)), reasons),
    st.builds(Cancel, reasons),
    st.builds(Fail, reasons),
)


@given(verdicts, st.integers(0, 5), st.booleans())
def test_whatever_verdict_a_task_gives_its_settlement_can_be_stored(said: Any, spent: int, raised: bool) -> None:
    def body() -> Any:
        if raised:
            raise said
        return said

    runner = Runner(Registry(), None, SystemClock())  # type: ignore[arg-type]
    job = Fetched("id", 1, "t", "default", 0, spent, 0, None, None, None, None, time.time(), "{}")
    options = task_options({"attempts": 4}, "t")
    now = Running(job, None, options)
    try:
        outcome = runner._completed(body(), None, now)  # type: ignore[arg-type]
    except BaseException as error:
        outcome = runner._outcome_of(error, now)
    done = settle(job, outcome, options, 0.5)
    for text in (done.reason, done.error and done.error.message):
        assert text is None or (b"\0" not in text.encode() and len(text) < 20_000)
    if isinstance(said, Snooze):
        assert isinstance(outcome, Again)
        assert done.attempt == spent
        assert done.delay is not None
        assert done.delay >= 0
    else:
        assert isinstance(outcome, Cancelled) or done.attempt == spent + 1
    assert isinstance(outcome, Failed) == isinstance(said, Fail)


def test_a_split_that_is_run_now_hands_on_the_verdict_of_its_splitter_and_of_its_compose(app: Piecework) -> None:
    @app.task(name="leaf-of-now")
    def leaf() -> int:
        return 1

    @app.split(name="not-ready")
    def not_ready() -> Any:
        yield leaf.piece()
        return Snooze(60)

    @app.split(name="not-wanted")
    def not_wanted() -> Any:
        yield leaf.piece()

    @not_wanted.compose
    def refuse(pieces: Pieces[int]) -> int | Cancel:
        return Cancel("no longer wanted")

    assert isinstance(not_ready(), Snooze)
    assert not_wanted().reason == "no longer wanted"
