"""What a person does to jobs through the app: retrying, deleting and pausing, and waiting for what is parked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import books

import piecework.bringback
import piecework.jobs
from piecework import JobParked, Piecework
from piecework.errors import BadArguments, BadOption, NotSerializable, ResultTimeout, UsageError
from piecework.job import NewJob, State
from piecework.testing.drain import drain


@pytest.fixture
def bad(app: Piecework) -> Any:
    @app.task(name="bad", attempts=1)
    def bad(n: int = 0) -> None:
        raise ValueError("bad body")

    return bad


@pytest.fixture
def whole(app: Piecework, bad: Any) -> Any:
    """A split whose second piece fails, and which composes all the same."""

    @app.task(name="good")
    def good(n: int) -> int:
        return n

    @app.split(name="whole", on_failure="compose")
    def whole() -> Any:
        yield good.piece(1)
        yield bad.piece(2)

    @whole.compose
    def joined(pieces: Any) -> int:
        return sum(pieces.results())

    return whole


# ── retry ────────────────────────────────────────────────────────────────────────────────────────


def test_jobs_that_cannot_come_back_hide_none_behind_them(
    app: Piecework, bad: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piecework.jobs, "BITE", 2)
    for _ in range(5):
        whole.later()
    drain(app)
    later = [bad.later() for _ in range(3)]
    drain(app)
    cancelled = bad.later()
    cancelled.cancel()
    assert app.jobs.where(task="bad").retry() == 4
    assert {job.state for job in [*later, cancelled]} == {State.AVAILABLE}
    assert app.jobs.where(state="failed").count() == 5
    assert app.jobs.where(state="failed").retry() == 0


@pytest.mark.parametrize("verb", ["retry", "resume"])
def test_bringing_many_back_says_how_many_were_left_and_why(
    app: Piecework, bad: Any, whole: Any, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(piecework.jobs, "BITE", 2)
    monkeypatch.setattr(piecework.bringback, "MOST_REFUSED", 2)
    ended = [bad.using(key=key).later() for key in ("a", "b", "c", "d")]
    if verb == "resume":
        assert app.jobs.where(task="bad").cancel() == 4
    else:
        drain(app)
    for key in ("a", "c", "d"):
        bad.using(key=key, delay=3600).later()
    found = app.jobs.where(state=ended[0].state)
    done = getattr(found, verb)()
    assert (done, done.left) == (1, 3)
    assert done.refused == [
        (ended[n].id, f"its unique key {key!r} is carried by another job that has not finished")
        for n, key in ((0, "a"), (2, "c"))
    ]
    assert ended[1].state is State.AVAILABLE


def test_what_comes_back_with_others_is_not_left(app: Piecework, bad: Any) -> None:
    @app.split(name="two")
    def two() -> Any:
        yield bad.piece()
        yield bad.piece()

    two.later()
    drain(app)
    done = app.jobs.where(state="failed").retry()
    assert (done.left, done.refused) == (0, [])


def test_what_ended_anew_meanwhile_is_not_left(app: Piecework, bad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, other = bad.using(key="k").later(), bad.later()
    drain(app)
    bad.using(key="k", delay=3600).later()
    retry = app.store.retry

    def beside(*args: Any, **options: Any) -> int:
        n = retry(*args, **options)
        drain(app)
        return n

    monkeypatch.setattr(app.store, "retry", beside)
    done = app.jobs.where(state="failed").retry()
    assert (done, [id for id, _ in done.refused]) == (1, [taken.id])
    assert other.state is State.FAILED


def test_retrying_one_job_says_why_it_cannot_come_back(app: Piecework, bad: Any, whole: Any) -> None:
    job = whole.later()
    drain(app)
    _, piece = job.pieces()
    with pytest.raises(UsageError, match=rf"job {piece.id} \(bad\) cannot be retried: .*has composed"):
        piece.retry()
    first = bad.using(key="k").later()
    drain(app)
    second = bad.using(key="k").later()
    with pytest.raises(UsageError, match="its unique key 'k' is carried by another job"):
        first.retry()
    with pytest.raises(UsageError, match="unique key"):
        asyncio.run(first.aretry())
    second.cancel()
    assert first.retry() is True


def test_retrying_a_piece_whose_split_cannot_come_back_names_the_split(app: Piecework, bad: Any) -> None:
    @app.split(name="keyed")
    def keyed() -> Any:
        yield bad.piece()

    job = keyed.using(key="k").later()
    drain(app)
    keyed.using(key="k").later()
    (piece,) = job.pieces()
    with pytest.raises(UsageError, match=rf"its split's \({job.id}\) unique key 'k'"):
        piece.retry()


def test_retrying_what_has_not_ended_badly_does_nothing(app: Piecework, whole: Any) -> None:
    job = whole.later()
    assert job.retry() is False
    drain(app)
    assert job.retry() is False


# ── delete ───────────────────────────────────────────────────────────────────────────────────────


def test_deleting_in_bites(app: Piecework, bad: Any, whole: Any, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(piecework.jobs, "BITE", 2)
    trees = [whole.later() for _ in range(3)]
    for _ in range(5):
        bad.later()
    drain(app)
    waits = bad.later()
    assert app.jobs.where(state="failed", batch=trees[0].id).delete() == 1
    assert trees[0].delete() == 2
    assert waits.delete() == 0
    assert app.jobs.where(state="completed").delete() == 6  # two trees, with what failed in them
    assert app.jobs.where().delete() == 5
    assert [job.id for job in app.jobs] == [waits.id]
    assert books(path) == []


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def test_queues_are_paused_by_name(app: Piecework, bad: Any) -> None:
    bad.using(queue="mail").later()
    app.jobs.pause("mail")
    assert app.jobs.paused() == ["mail"]
    (queue,) = app.jobs.queues()
    assert (queue.name, queue.counts, queue.paused) == ("mail", {"available": 1}, True)
    assert queue.oldest_due is not None
    app.jobs.unpause("mail")
    assert app.jobs.paused() == []
    for wrong in ("", "a b", 7, None):
        with pytest.raises(BadOption, match="queue name"):
            app.jobs.pause(wrong)  # type: ignore[arg-type]


# ── waiting for what is parked ───────────────────────────────────────────────────────────────────


def test_a_parked_job_is_not_waited_for_without_end(app: Piecework) -> None:
    """It may be brought back, so whoever has time for it waits; whoever would wait for ever is told."""
    app.store.add([NewJob("newer", "newer", "{}")])
    job = app.jobs.get("newer")
    drain(app)
    with pytest.raises(JobParked, match=r"job newer \(newer\) is parked: unknown task 'newer'"):
        job.result()
    with pytest.raises(JobParked):
        asyncio.run(job.aresult())
    with pytest.raises(ResultTimeout, match="still parked .*unknown task 'newer'"):
        job.result(timeout=0.01)


# ── bad calls ────────────────────────────────────────────────────────────────────────────────────


def test_later_many_says_which_call_is_wrong(app: Piecework, bad: Any) -> None:
    with pytest.raises(BadArguments, match=r"bad\.later_many: call 1, \('x',\): .*argument n"):
        bad.later_many([(1,), ("x",)])
    with pytest.raises(NotSerializable, match=r"call 2, \(<object"):
        bad.later_many([(1,), (2,), (object(),)])
    with pytest.raises(BadArguments, match=r"call 0, \(1, 2\): "):
        bad.later_many([(1, 2)])
    assert app.store.counts() == {}


def test_a_batch_says_that_it_was_given_something_else(app: Piecework, bad: Any) -> None:
    with app.batch() as batch, pytest.raises(BadArguments, match=r"batch\.add was given str 'x'; give it some_task"):
        batch.add("x")  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match=r"app\.batch\(then=…\) was given Job .*; give it some_task\.piece"):
        app.batch(then=bad.later())  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [float("inf"), float("nan"), -1, 36_601])
def test_days_that_never_end_are_refused(days: float) -> None:
    with pytest.raises(UsageError, match="keep_completed must be between 0 and 36,600 days; None"):
        Piecework("sqlite://:memory:", keep_completed=days)
