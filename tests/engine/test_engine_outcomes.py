"""What a run comes to: retries, failures of every kind, timeouts, results that cannot be kept, jobs that cannot be run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import alter, books, until

from piecework import Piecework, current, exponential
from piecework.errors import JobFailed, ResultTimeout
from piecework.ids import new_id
from piecework.job import NewJob
from piecework.testing.drain import drain

# ── retries ──────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_attempt_is_retried_and_its_history_has_the_error_and_traceback(app: Piecework, path: Path) -> None:
    @app.task(name="t", attempts=5, retry=0)
    def fails_twice(word: str) -> str:
        if current.attempt < 3:
            raise ValueError(f"{word} {current.attempt}")
        return f"{word} done"

    job = fails_twice.later("try")
    assert drain(app) == 3
    assert job.result(timeout=0) == "try done"
    lines = job.attempts()
    assert [(line.run, line.attempt, line.outcome) for line in lines] == [(1, 1, "retry"), (2, 2, "retry")]
    for line in lines:
        assert line.error is not None
        assert (line.error.type, line.error.message) == ("ValueError", f"try {line.attempt}")
        assert 'raise ValueError(f"{word} {current.attempt}")' in line.error.traceback
        assert "piecework/engine" not in line.error.traceback
    record = job.record()
    assert (record.run, record.attempt, record.error, record.state) == (3, 3, None, "completed")
    assert books(path) == []


def test_a_job_fails_for_good_after_its_attempts_and_can_be_retried_by_hand(app: Piecework, path: Path) -> None:
    good: list[bool] = []

    @app.task(name="t", attempts=3, retry=0)
    def fails() -> str:
        if not good:
            raise LookupError("not yet")
        return "now"

    job = fails.later()
    assert drain(app) == 3
    with pytest.raises(JobFailed, match="LookupError: not yet"):
        job.result(timeout=0)
    assert [line.outcome for line in job.attempts()] == ["retry", "retry", "failed"]
    assert (job.state, job.record().attempt) == ("failed", 3)
    good.append(True)
    assert job.retry()
    assert (job.state, job.record().attempt) == ("available", 0)
    assert drain(app) == 1
    assert job.result(timeout=0) == "now"
    assert (job.record().run, job.record().attempt) == (4, 1)
    assert books(path) == []


def test_the_wait_before_a_retry_follows_the_policy_and_its_jitter(app: Piecework, path: Path | str) -> None:
    @app.task(name="t", attempts=9, retry=exponential(100, factor=3, ceiling=500, jitter=0.5))
    def fails() -> None:
        raise ValueError

    waits = []
    job = fails.later()
    for _ in range(4):
        assert drain(app) == 1
        record = job.record()
        assert record.state == "available"
        waits.append(record.run_at - job.attempts()[-1].finished_at)
        alter(path, job.id, run_at=0.0)  # where time would have to pass otherwise
    for wait, full in zip(waits, (100, 300, 500, 500), strict=True):
        assert full * 0.5 <= wait <= full
    assert len({round(wait / full, 6) for wait, full in zip(waits, (100, 300, 500, 500), strict=True)}) > 1


@pytest.mark.elsewhere(shelf=())
def test_options_of_one_call_override_those_of_its_task(app: Piecework) -> None:
    @app.task(name="t", attempts=9, retry=3600)
    def fails() -> None:
        raise ValueError

    job = fails.using(attempts=2, retry=0).later()
    assert drain(app) == 2
    assert job.state == "failed"


# ── whatever can be raised ───────────────────────────────────────────────────────────────────────


class Mine(BaseException):
    pass


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __repr__(self) -> str:
        raise RuntimeError("no repr either")


class DeadlyStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Chained(Exception):
    pass


def chained() -> None:
    try:
        raise BadStr
    except BadStr as error:
        raise Chained("the outer one") from error


def raiser(error: BaseException) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw


class Looping(Exception):
    """Its cause is itself."""

    def __init__(self) -> None:
        super().__init__("round and round")
        self.__cause__ = self


def deep() -> None:
    deep()


RAISED: dict[str, tuple[Callable[[], None], str, str]] = {
    "SystemExit": (raiser(SystemExit(3)), "SystemExit", "3"),
    "KeyboardInterrupt": (raiser(KeyboardInterrupt()), "KeyboardInterrupt", ""),
    "GeneratorExit": (raiser(GeneratorExit()), "GeneratorExit", ""),
    "StopIteration": (raiser(StopIteration(1)), "StopIteration", "1"),
    "a BaseException of its own": (raiser(Mine("mine")), "test_engine_outcomes.Mine", "mine"),
    "a __str__ that raises": (raiser(BadStr()), "test_engine_outcomes.BadStr", "__str__ raised RuntimeError"),
    "a __str__ that exits": (raiser(DeadlyStr()), "test_engine_outcomes.DeadlyStr", "__str__ raised SystemExit"),
    "a __str__ that is no text": (raiser(NotText()), "test_engine_outcomes.NotText", "__str__ raised TypeError"),
    "a broken cause": (chained, "test_engine_outcomes.Chained", "the outer one"),
    "its own cause": (raiser(Looping()), "test_engine_outcomes.Looping", "round and round"),
    "NUL": (raiser(ValueError("a\x00b")), "ValueError", "a\\x00b"),
    "a lone surrogate": (raiser(ValueError("a\ud800b")), "ValueError", "a\\ud800b"),
    "ten megabytes": (raiser(ValueError("x" * 10_000_000)), "ValueError", "characters left out"),
    "no arguments": (raiser(ValueError()), "ValueError", ""),
    "a group": (raiser(BaseExceptionGroup("several", [ValueError("one"), Mine()])), "BaseExceptionGroup", "several"),
    "recursion without end": (deep, "RecursionError", "recursion"),
    "out of memory": (raiser(MemoryError()), "MemoryError", ""),
}


@pytest.mark.elsewhere(colour={"def"})
@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("what", RAISED)
def test_whatever_a_job_raises_is_recorded_and_the_worker_lives(
    app: Piecework, path: Path, what: str, colour: str
) -> None:
    throw, kind, said = RAISED[what]

    def plain() -> None:
        throw()

    async def coroutine() -> None:
        throw()

    task: Any = app.task(name="t", attempts=1)(plain if colour == "def" else coroutine)
    if colour == "async def" and what == "StopIteration":  # a coroutine cannot raise it
        kind, said = "RuntimeError", "StopIteration"
    good = app.task(name="good")(lambda_free)
    job = task.later()
    with app.worker(concurrency=2):
        until(lambda: job.state == "failed", lambda: f"failed: {job.record()}")
        assert good.later(2).result(timeout=5) == 4  # the same threads go on
    error = job.error
    assert error is not None
    assert error.type == kind
    assert said in error.message
    assert len(error.message) <= 2_100
    assert len(error.traceback) <= 16_100
    (line,) = job.attempts()
    assert (line.outcome, line.error) == ("failed", error)
    assert books(path) == []


def lambda_free(n: int) -> int:
    return n * 2


@pytest.mark.elsewhere(shelf=())
def test_an_error_with_a_cause_tells_both(app: Piecework) -> None:
    @app.task(name="t", attempts=1)
    def fails() -> None:
        try:
            {}["key"]
        except KeyError as error:
            raise ValueError("outer") from error

    job = fails.later()
    drain(app)
    error = job.error
    assert error is not None
    assert "KeyError: 'key'" in error.traceback
    assert "direct cause" in error.traceback


@pytest.mark.elsewhere(shelf=())
def test_a_task_that_raises_an_error_of_piecework_itself_is_a_failed_job(app: Piecework) -> None:
    from piecework.errors import BadArguments, JobCancelled, JobTimeout

    @app.task(name="t", attempts=1)
    def fails(which: str) -> None:
        raise {"arguments": BadArguments, "cancelled": JobCancelled, "timeout": JobTimeout}[which]("by the body itself")

    jobs = [fails.later(which) for which in ("arguments", "cancelled", "timeout")]
    drain(app)
    assert [job.state for job in jobs] == ["failed"] * 3


# ── results ──────────────────────────────────────────────────────────────────────────────────────


class Opaque:
    pass


RESULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "an object": (Opaque, "NotSerializable"),
    "an object inside": (lambda: {"a": [1, Opaque()]}, "NotSerializable"),
    "NaN": (lambda: math.nan, "NotSerializable"),
    "NaN inside": (lambda: {"a": [1.0, math.inf]}, "NotSerializable"),
    "too large": (lambda: "x" * (1024 * 1024), "TooLarge"),
    "itself inside": (lambda: _loop(), "NotSerializable"),
    "a lone surrogate": (lambda: "a\ud800", "NotSerializable"),
    "a generator": (lambda: (n for n in range(3)), "NotSerializable"),
}


def _loop() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("what", RESULTS)
def test_a_result_that_cannot_be_kept_fails_at_once_and_is_not_tried_again(
    app: Piecework, path: Path, what: str, colour: str
) -> None:
    make, kind = RESULTS[what]
    calls = []

    def plain() -> Any:
        calls.append(1)
        return make()

    async def coroutine() -> Any:
        calls.append(1)
        return make()

    task: Any = app.task(name="t", attempts=9, retry=0)(plain if colour == "def" else coroutine)
    job = task.later()
    assert drain(app) == 1
    assert calls == [1]
    error = job.error
    assert job.state == "failed"
    assert error is not None
    assert error.type == f"piecework.errors.{kind}"
    assert "the result" in error.message
    assert [line.outcome for line in job.attempts()] == ["failed"]
    assert books(path) == []


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}, "null", 0.0, "é\x00", "x" * 1_000_000])
def test_a_result_arrives_as_it_was_returned(app: Piecework, value: Any) -> None:
    @app.task(name="t")
    def give() -> Any:
        return value

    job = give.later()
    drain(app)
    found = job.result(timeout=0)
    assert found == value
    assert type(found) is type(value)


# ── timeouts ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
def test_a_timeout_really_ends_a_coroutine(app: Piecework) -> None:
    ended: list[str] = []

    @app.task(name="t", attempts=1, timeout=0.1)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    began = time.monotonic()
    job = slow.later()
    drain(app)
    assert time.monotonic() - began < 5
    assert ended == ["cancelled"]
    error = job.error
    assert error is not None
    assert (error.type, error.message) == (
        "piecework.errors.JobTimeout", f"job {job.id} ran longer than its timeout of 0.1 s"
    )  # fmt: skip


@pytest.mark.elsewhere(shelf=())
def test_the_traceback_of_a_timeout_shows_where_the_coroutine_waited(app: Piecework) -> None:
    @app.task(name="t", attempts=1, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    job = slow.later()
    drain(app)
    assert job.error is not None
    assert "await asyncio.sleep(60)" in job.error.traceback


@pytest.mark.elsewhere(shelf=())
def test_a_timeout_error_of_the_body_is_not_taken_for_the_jobs_own(app: Piecework) -> None:
    @app.task(name="t", attempts=1, timeout=60)
    async def fails() -> None:
        raise TimeoutError("somebody else's")

    job = fails.later()
    drain(app)
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("TimeoutError", "somebody else's")


@pytest.mark.elsewhere(shelf=())
def test_a_timeout_of_a_plain_function_is_raised_where_it_checks(app: Piecework) -> None:
    @app.task(name="t", attempts=2, retry=0, timeout=0.05)
    def slow() -> str:
        until(lambda: current.check(), "the check raises", within=5)
        return "never"

    @app.task(name="unheeding", attempts=1, timeout=0.05)
    def unheeding() -> str:
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 0.1)
        return "late, but done"

    job, other = slow.later(), unheeding.later()
    drain(app)
    assert job.state == "failed"
    assert [(line.outcome, line.error.type) for line in job.attempts() if line.error] == [
        ("retry", "piecework.errors.JobTimeout"),
        ("failed", "piecework.errors.JobTimeout"),
    ]
    assert other.result(timeout=0) == "late, but done"


# ── jobs that cannot be run ──────────────────────────────────────────────────────────────────────


def test_an_unknown_task_is_parked_with_the_reason_and_revived_once_the_task_exists(
    store_url: str, path: Path | str
) -> None:
    new, old = Piecework(store_url), Piecework(store_url)

    @new.task(name="newer")
    def newer(n: int) -> int:
        return n + 1

    job = newer.later(1)
    drain(old)
    record = job.record()
    assert (record.state, record.attempt, record.error) == ("parked", 0, None)
    assert record.reason == "unknown task 'newer': no task of this worker's app has that name"
    assert [line.outcome for line in job.attempts()] == ["parked"]
    with pytest.raises(ResultTimeout, match="still parked .*unknown task 'newer'"):
        job.result(timeout=0)
    assert drain(new) == 1
    assert (job.result(timeout=0), job.record().reason, job.record().attempt) == (2, None, 1)
    assert books(path) == []
    new.close()
    old.close()


ARGUMENTS = {
    "not JSON": "nonsense",
    "of another type": '[["x"], {}]',
    "too few": "[[], {}]",
    "too many": "[[1, 2, 3], {}]",
    "with an unknown name": '[[1], {"m": 2}]',
    "of another shape": "5",
    "empty": "",
}


@pytest.mark.elsewhere(colour={"def"})
@pytest.mark.parametrize("colour", ["def", "async def"])
@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_that_cannot_be_decoded_park_the_job_with_the_reason(
    app: Piecework, path: Path, what: str, colour: str
) -> None:
    called: list[int] = []

    def plain(n: int) -> None:
        called.append(n)

    async def coroutine(n: int) -> None:
        called.append(n)

    app.task(name="t")(plain if colour == "def" else coroutine)  # type: ignore[arg-type]
    (id,) = app.add([NewJob(new_id(), "t", ARGUMENTS[what])])
    assert drain(app) == 1
    record = app.jobs.get(id).record()
    assert (record.state, record.attempt, called) == ("parked", 0, [])
    assert record.reason
    assert "t" in record.reason
    assert books(path) == []


def test_options_that_cannot_be_read_park_the_job(app: Piecework) -> None:
    app.task(name="t")(lambda_free)
    (id,) = app.add([NewJob(new_id(), "t", "[[1], {}]", options='{"attempts": "many"}')])
    drain(app)
    record = app.jobs.get(id).record()
    assert record.state == "parked"
    assert "options cannot be read" in (record.reason or "")
