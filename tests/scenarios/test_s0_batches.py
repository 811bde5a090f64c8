"""Splits and batches beyond the seeds' own words: a compose's own queue, keyed pieces, and batches put together by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from piecework import Piece, Pieces, Piecework
from piecework.batch import BITE, Batch
from piecework.errors import JobCancelled, JobFailed, UsageError
from piecework.job import BatchState, State
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]


class Parts:
    """A task whose runs are remembered, and a task that a batch can continue with."""

    def __init__(self, app: Piecework) -> None:
        self.ran: list[int] = []
        self.continued: list[str] = []

        @app.task(attempts=1)
        def part(n: int) -> int:
            self.ran.append(n)
            if n < 0:
                raise ValueError("bad body")
            return n

        @app.task
        def then(day: str) -> str:
            self.continued.append(day)
            return f"report of {day}"

        self.part, self.then = part, then


@pytest.fixture
def parts(app: Piecework) -> Parts:
    return Parts(app)


# ── a compose's own queue and priority ───────────────────────────────────────────────────────────


def a_split(app: Piecework, parts: Parts, queue: str | None = None, priority: int | None = None) -> Any:
    @app.split(queue="splits", priority=5)
    def whole() -> Iterator[Piece[int]]:
        yield parts.part.piece(1)

    @whole.compose(queue=queue, priority=priority)
    def join(pieces: Pieces[int]) -> int:
        return sum(pieces.results())

    return whole


def test_a_compose_waits_in_its_own_queue_at_its_own_priority(app: Piecework, parts: Parts) -> None:
    job = a_split(app, parts, queue="composes", priority=-9).later()
    app.store.pause("composes")
    drain(app)
    record = job.record()
    assert (record.state, record.queue, record.priority) == (State.AVAILABLE, "composes", -9)
    with app.worker(queues=["composes"]):
        app.store.pause("composes", on=False)
        assert job.result(timeout=30) == 1


def test_a_compose_without_a_queue_waits_where_its_split_did(app: Piecework, parts: Parts) -> None:
    job = a_split(app, parts).using(queue="mine", priority=3).later()
    with app.worker(queues=["mine", "default"]):
        assert job.result(timeout=30) == 1
    assert (job.record().queue, job.record().priority) == ("mine", 3)


def test_a_compose_overtakes_thousands_of_other_splits_pieces(app: Piecework, parts: Parts) -> None:
    """At a better priority it does not wait behind them."""
    order: list[str] = []

    @app.task(priority=5)
    def filler() -> None:
        order.append("filler")

    @app.split(priority=0)
    def whole() -> Iterator[Piece[int]]:
        yield parts.part.piece(1)

    @whole.compose(priority=-1)
    def join(pieces: Pieces[int]) -> None:
        order.append("compose")

    filler.later_many([()] * 2000)
    whole.later()
    drain(app, concurrency=1)
    assert len(order) == 2001
    assert order.index("compose") < 1000


def test_the_counters_of_queues_are_right_after_a_move(app: Piecework, parts: Parts) -> None:
    a_split(app, parts, queue="composes").later()
    app.store.pause("composes")
    drain(app)
    assert {place: n for place, n in app.jobs.counts().items() if n} == {
        ("composes", "available"): 1,
        ("default", "completed"): 1,
    }


# ── keyed pieces ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("later", [False, True])
def test_pieces_have_the_keys_they_were_given_and_keep_their_order(app: Piecework, parts: Parts, later: bool) -> None:
    @app.split
    def whole() -> Iterator[Piece[int]]:
        for n, name in enumerate(["zebra", None, "ant"]):
            yield parts.part.using(key=name).piece(n)

    @whole.compose
    def join(pieces: Pieces[int]) -> list[tuple[str, int]]:
        return list(pieces.items())

    if later:
        job = whole.later()
        drain(app)
        answer = job.result(timeout=0)
        assert [piece.record().piece_key for piece in job.pieces()] == ["zebra", "1", "ant"]
    else:
        answer = whole()
    assert answer == [("zebra", 0), ("1", 1), ("ant", 2)]


def test_a_piece_runs_where_and_when_and_how_often_it_was_told(app: Piecework) -> None:
    @app.task(queue="a", priority=1)
    def part() -> None:
        raise ValueError

    @app.split
    def whole() -> Iterator[Piece[None]]:
        yield part.piece()
        yield part.using(queue="b", priority=2, attempts=1, delay=3600).piece()

    app.store.pause("a")
    job = whole.later()
    drain(app)
    first, second = (piece.record() for piece in job.pieces())
    assert (first.queue, first.priority) == ("a", 1)
    assert (second.queue, second.priority) == ("b", 2)
    assert 3590 < second.run_at - second.created_at <= 3600
    assert job.state is State.WAITING


# ── ad hoc batches ───────────────────────────────────────────────────────────────────────────────


def test_a_batch_continues_once_when_its_last_piece_has_settled(app: Piecework, parts: Parts) -> None:
    with app.batch(then=parts.then.piece("monday")) as batch:
        for n in range(5):
            batch.add(parts.part.piece(n))
    assert batch.then is not None
    assert batch.then.state is State.WAITING
    drain(app)
    assert batch.then.result(timeout=0) == "report of monday"
    assert sorted(parts.ran) == [0, 1, 2, 3, 4]
    assert parts.continued == ["monday"]
    assert batch.record is not None
    assert (batch.record.state, batch.record.total, batch.record.completed) == (BatchState.DONE, 5, 5)


def test_an_empty_batch_continues(app: Piecework, parts: Parts) -> None:
    with app.batch(then=parts.then.piece("monday")) as batch:
        pass
    drain(app)
    assert batch.then is not None
    assert batch.then.result(timeout=0) == "report of monday"
    assert batch.record is not None
    assert (batch.record.state, batch.record.total) == (BatchState.DONE, 0)


def test_a_batch_without_a_continuation_ends(app: Piecework, parts: Parts) -> None:
    with app.batch() as batch:
        batch.add(parts.part.piece(1))
        batch.add(parts.part.piece(2))
    assert batch.then is None
    drain(app)
    assert sorted(parts.ran) == [1, 2]
    assert batch.record is not None
    assert (batch.record.state, batch.record.open) == (BatchState.DONE, 0)


def test_an_empty_batch_without_a_continuation_ends(app: Piecework) -> None:
    with app.batch() as batch:
        pass
    assert batch.record is not None
    assert batch.record.state is BatchState.DONE


def build_half(batch: Batch, parts: Parts, n: int) -> None:
    """A block that adds some pieces and then raises."""
    with batch:
        for m in range(n):
            batch.add(parts.part.piece(m))
        raise ZeroDivisionError


def test_a_block_that_raises_before_anything_was_stored_stores_nothing(app: Piecework, parts: Parts) -> None:
    batch = app.batch(then=parts.then.piece("monday"))
    with pytest.raises(ZeroDivisionError):
        build_half(batch, parts, 1)
    assert batch.record is None
    assert drain(app) == 0
    assert not any(app.jobs.counts().values())


def test_a_block_that_raises_stops_its_batch_and_does_not_continue(app: Piecework, parts: Parts) -> None:
    batch = app.batch(then=parts.then.piece("monday"))
    with pytest.raises(ZeroDivisionError):
        build_half(batch, parts, BITE + 1)
    assert drain(app) == 0
    assert parts.ran == []
    assert parts.continued == []
    assert batch.then is not None
    with pytest.raises(JobCancelled, match="raised ZeroDivisionError"):
        batch.then.result(timeout=0)
    assert batch.record is not None
    assert (batch.record.state, batch.record.open, batch.record.cancelled) == (BatchState.STOPPED, 0, BITE)


def test_a_block_that_raises_stops_a_batch_without_a_continuation_too(app: Piecework, parts: Parts) -> None:
    batch = app.batch()
    with pytest.raises(ZeroDivisionError):
        build_half(batch, parts, BITE)
    assert drain(app) == 0
    assert parts.ran == []
    assert batch.record is not None
    assert (batch.record.open, batch.record.cancelled) == (0, BITE)
    assert batch.record.state is BatchState.STOPPED


def test_pieces_of_a_batch_run_while_it_is_still_put_together_and_it_does_not_end_early(
    app: Piecework, parts: Parts, until: Until
) -> None:
    with app.worker(), app.batch(then=parts.then.piece("monday")) as batch:
        batch.add(parts.part.piece(1))
        batch.flush()
        until(lambda: batch.record is not None and batch.record.completed == 1)
        assert batch.then is not None
        assert batch.then.state is State.WAITING
        batch.add(parts.part.piece(2))
        batch.seal()
        assert batch.then.result(timeout=30) == "report of monday"
    assert parts.continued == ["monday"]


def test_a_sealed_batch_takes_no_further_pieces(app: Piecework, parts: Parts) -> None:
    with app.batch() as batch:
        batch.add(parts.part.piece(1))
    with pytest.raises(UsageError, match="sealed"):
        batch.add(parts.part.piece(2))
    drain(app)
    assert parts.ran == [1]


@pytest.mark.parametrize(
    ("policy", "state"), [("finish", State.FAILED), ("fail_fast", State.FAILED), ("compose", State.COMPLETED)]
)
def test_a_batch_follows_its_policy(app: Piecework, parts: Parts, policy: str, state: State) -> None:
    with app.batch(then=parts.then.piece("monday"), on_failure=policy) as batch:
        batch.add(parts.part.piece(-1))
        batch.add(parts.part.piece(1))
    drain(app)
    assert batch.then is not None
    assert batch.then.state is state
    assert parts.continued == (["monday"] if state is State.COMPLETED else [])
    if state is State.FAILED:
        with pytest.raises(JobFailed, match="piece 0 failed: ValueError: bad body"):
            batch.then.result(timeout=0)


def test_a_batch_of_thousands_continues_once(app: Piecework, parts: Parts) -> None:
    n = 2 * BITE + 7
    with app.worker(concurrency=4):
        with app.batch(then=parts.then.piece("monday")) as batch:
            for m in range(n):
                batch.add(parts.part.piece(m))
        assert batch.then is not None
        assert batch.then.result(timeout=60) == "report of monday"
    assert sorted(parts.ran) == list(range(n))
    assert parts.continued == ["monday"]


def test_a_batch_may_contain_splits_and_continue_with_one(app: Piecework, parts: Parts) -> None:
    @app.split
    def inner(n: int) -> Iterator[Piece[int]]:
        yield parts.part.piece(n)
        yield parts.part.piece(n + 1)

    @inner.compose
    def add_up(pieces: Pieces[int], n: int) -> int:
        return sum(pieces.results())

    with app.batch(then=inner.piece(100)) as batch:
        batch.add(inner.piece(1))
        batch.add(parts.part.piece(7))
    drain(app)
    assert batch.then is not None
    assert batch.then.result(timeout=0) == 201
    assert sorted(parts.ran) == [1, 2, 7, 100, 101]


def test_a_key_that_is_added_to_a_batch_twice_is_one_piece_or_refused_and_never_hangs(
    app: Piecework, parts: Parts
) -> None:
    with app.batch(then=parts.then.piece("monday")) as batch:
        batch.add(parts.part.using(key="a").piece(1))
        batch.add(parts.part.using(key="a").piece(1))
    drain(app)
    assert parts.ran == [1]
    assert parts.continued == ["monday"]
