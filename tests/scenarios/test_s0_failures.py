"""S0-7: a piece that fails for good, under each policy; and what a retry by hand mends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from piecework import FailedPiece, Piece, Pieces, Piecework
from piecework.errors import JobCancelled, JobFailed, PieceFailed, UsageError
from piecework.job import BatchState, State
from piecework.testing.drain import drain

Policy = Literal["fail_fast", "finish", "compose"]
Until = Callable[[Callable[[], object]], None]


class Export:
    """Three children, of which the second is bad until somebody mends it."""

    def __init__(
        self, app: Piecework, on_failure: Policy, bad_queue: str = "default", rest_queue: str = "default"
    ) -> None:
        self.mended = False
        self.tried: Counter[int] = Counter()
        self.composed: list[tuple[list[str], list[FailedPiece]]] = []

        @app.task(attempts=2, retry=0)
        def child(n: int) -> str:
            self.tried[n] += 1
            if n == 1 and not self.mended:
                raise ValueError("bad body")
            return f"r{n}"

        @app.split(on_failure=on_failure)
        def whole() -> Iterator[Piece[str]]:
            yield child.piece(0)
            yield child.using(key="second", queue=bad_queue).piece(1)
            yield child.using(queue=rest_queue).piece(2)

        @whole.compose
        def join(pieces: Pieces[str]) -> str:
            self.composed.append((list(pieces.results()), list(pieces.failures())))
            return ";".join(pieces.results())

        self.split = whole


SAID = "piece second failed: ValueError: bad body"


def test_s0_7_by_default_the_siblings_run_on_and_then_the_parent_fails(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    assert job.state is State.FAILED
    assert export.tried == {0: 1, 1: 2, 2: 1}
    assert export.composed == []
    assert job.batch is not None
    assert (job.batch.state, job.batch.completed, job.batch.failed) == (BatchState.FAILED, 2, 1)


def test_s0_7_the_parents_error_names_the_child_and_its_message(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("PieceFailed", SAID)
    assert 'raise ValueError("bad body")' in job.error.traceback
    with pytest.raises(JobFailed, match=SAID) as failed:
        job.result(timeout=0)
    assert failed.value.error == job.error


def test_s0_7_now_the_parent_fails_in_the_same_words(app: Piecework) -> None:
    export = Export(app, "finish")
    with pytest.raises(PieceFailed, match=SAID) as failed:
        export.split()
    assert isinstance(failed.value.__cause__, ValueError)
    assert export.composed == []
    assert export.tried[2] == 1


def test_s0_7_every_try_of_the_child_is_in_its_history(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    _, bad, _ = job.pieces()
    history = bad.attempts()
    assert [(line.run, line.outcome) for line in history] == [(1, "retry"), (2, "failed")]
    assert all(
        line.error and line.error.message == "bad body" and "ValueError" in line.error.traceback for line in history
    )


def test_s0_7_retrying_the_child_by_hand_composes_once(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    _, bad, _ = job.pieces()
    export.mended = True
    assert bad.retry()
    assert job.state is State.WAITING
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"
    assert export.tried == {0: 1, 1: 3, 2: 1}
    assert len(export.composed) == 1
    assert drain(app) == 0
    assert not bad.retry()


def test_s0_7_retrying_the_parent_by_hand_takes_the_failed_child_along(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    export.mended = True
    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"
    assert export.tried == {0: 1, 1: 3, 2: 1}
    assert len(export.composed) == 1


def test_s0_7_a_retry_that_fails_again_fails_the_parent_again(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    assert job.retry()
    drain(app)
    assert job.state is State.FAILED
    assert export.tried == {0: 1, 1: 4, 2: 1}
    export.mended = True
    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"


def test_s0_7_retrying_through_a_query_mends_the_tree(app: Piecework) -> None:
    export = Export(app, "finish")
    job = export.split.later()
    drain(app)
    export.mended = True
    assert app.jobs.where(state="failed").retry() >= 1
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"
    assert len(export.composed) == 1


# ── fail_fast ────────────────────────────────────────────────────────────────────────────────────


def test_s0_7_fail_fast_fails_the_parent_at_once_and_what_has_not_started_never_does(app: Piecework) -> None:
    export = Export(app, "fail_fast", rest_queue="rest")
    job = export.split.later()
    with app.worker(queues=["default"]), pytest.raises(JobFailed, match=SAID):
        job.result(timeout=30)
    assert export.tried[2] == 0
    drain(app)
    assert export.tried[2] == 0
    assert export.composed == []
    *_, rest = job.pieces()
    assert rest.state is State.CANCELLED
    assert job.batch is not None
    assert (job.batch.open, job.batch.completed, job.batch.failed, job.batch.cancelled) == (0, 1, 1, 1)


def test_s0_7_fail_fast_now_runs_nothing_behind_the_failure(app: Piecework) -> None:
    export = Export(app, "fail_fast")
    with pytest.raises(PieceFailed, match=SAID):
        export.split()
    assert export.tried == {0: 1, 1: 1}


def test_s0_7_fail_fast_asks_what_runs_to_stop(app: Piecework, until: Until) -> None:
    from piecework import current

    started, stopped = threading.Event(), threading.Event()

    @app.task
    def long() -> None:
        started.set()
        try:
            until(lambda: current.check())
        except JobCancelled:
            stopped.set()
            raise

    @app.task(attempts=1)
    def bad() -> None:
        assert started.wait(30)
        raise ValueError("bad body")

    @app.split(on_failure="fail_fast")
    def whole() -> Iterator[Piece[None]]:
        yield long.piece()
        yield bad.piece()

    job = whole.later()
    with app.worker(concurrency=3):
        with pytest.raises(JobFailed, match="piece 1 failed: ValueError: bad body"):
            job.result(timeout=30)
        assert stopped.wait(30)
    first, _ = job.pieces()
    assert first.state is State.CANCELLED


def test_s0_7_after_fail_fast_a_retry_runs_what_was_left_and_composes_once(app: Piecework) -> None:
    export = Export(app, "fail_fast", rest_queue="rest")
    job = export.split.later()
    with app.worker(queues=["default"]), pytest.raises(JobFailed):
        job.result(timeout=30)
    drain(app)
    export.mended = True
    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"
    assert export.tried == {0: 1, 1: 3, 2: 1}
    assert len(export.composed) == 1


def test_s0_7_fail_fast_stops_a_splitter_that_is_still_at_it(app: Piecework, leaping: Any, until: Until) -> None:
    """Its next bite is refused, so a million pieces are not made for nothing."""
    made: list[int] = []

    @app.task(attempts=1)
    def bad(n: int) -> None:
        raise ValueError("bad body")

    @app.split(on_failure="fail_fast")
    def whole() -> Iterator[Piece[None]]:
        for n in range(1_000_000):
            made.append(n)
            if n == 1:
                until(lambda: (batch := job.batch) is not None and batch.state is BatchState.FAILED)
            leaping.leap(1)
            yield bad.piece(n)

    job = whole.later()
    with app.worker(concurrency=2), pytest.raises(JobFailed, match="piece 0 failed"):
        job.result(timeout=30)
    assert len(made) == 2


# ── compose ──────────────────────────────────────────────────────────────────────────────────────


def test_s0_7_compose_runs_once_and_sees_what_failed(app: Piecework) -> None:
    export = Export(app, "compose")
    job = export.split.later()
    drain(app)
    assert job.result(timeout=0) == "r0;r2"
    ((results, failures),) = export.composed
    assert results == ["r0", "r2"]
    (failure,) = failures
    assert (failure.ordinal, failure.key) == (1, "second")
    assert failure.error is not None
    assert (failure.error.type, failure.error.message) == ("ValueError", "bad body")
    _, bad, _ = job.pieces()
    assert failure.id == bad.id
    assert bad.state is State.FAILED


def test_s0_7_compose_now_gives_the_same_answer(app: Piecework) -> None:
    export = Export(app, "compose")
    assert export.split() == "r0;r2"
    ((_, (failure,)),) = export.composed
    assert (failure.ordinal, failure.key) == (1, "second")


def test_s0_7_a_piece_of_what_has_composed_is_not_retried(app: Piecework) -> None:
    """What a compose has read does not change under it."""
    export = Export(app, "compose")
    job = export.split.later()
    drain(app)
    export.mended = True
    _, bad, _ = job.pieces()
    with pytest.raises(UsageError, match="has composed"):
        bad.retry()
    assert app.jobs.where(state="failed").retry() == 0
    assert drain(app) == 0
    assert len(export.composed) == 1


@pytest.mark.parametrize("on_failure", ["fail_fast", "finish"])
def test_s0_7_a_cancelled_piece_is_terminal(app: Piecework, on_failure: Policy) -> None:
    export = Export(app, on_failure, bad_queue="held")
    export.mended = True
    app.store.pause("held")
    job = export.split.later()
    drain(app)
    assert job.record().state is State.WAITING
    _, held, _ = job.pieces()
    assert held.cancel("not needed")
    drain(app)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.message == "piece second was cancelled: not needed"
    assert export.composed == []


def test_s0_7_a_cancelled_piece_is_seen_by_a_compose_that_sees_failures(app: Piecework) -> None:
    export = Export(app, "compose", bad_queue="held")
    app.store.pause("held")
    job = export.split.later()
    drain(app)
    _, held, _ = job.pieces()
    held.cancel("not needed")
    drain(app)
    assert job.result(timeout=0) == "r0;r2"
    ((_, (failure,)),) = export.composed
    assert (failure.key, failure.error) == ("second", None)


def test_s0_7_a_failed_inner_split_fails_the_outer_one_and_a_retry_of_the_root_mends_both(app: Piecework) -> None:
    inner = Export(app, "finish")
    composed: list[str] = []

    @app.split
    def outer() -> Iterator[Piece[str]]:
        yield inner.split.piece()

    @outer.compose
    def join(pieces: Pieces[str]) -> str:
        composed.append("+".join(pieces.results()))
        return composed[-1]

    job = outer.later()
    drain(app)
    assert job.state is State.FAILED
    assert job.error is not None
    assert SAID in job.error.message
    inner.mended = True
    assert job.retry()
    drain(app)
    assert job.result(timeout=0) == "r0;r1;r2"
    assert inner.tried == {0: 1, 1: 3, 2: 1}
    assert composed == ["r0;r1;r2"]


def test_s0_7_cancelling_the_root_stops_everything_below(app: Piecework) -> None:
    export = Export(app, "finish", bad_queue="held")
    app.store.pause("held")
    job = export.split.later()
    drain(app)
    assert job.cancel("changed my mind")
    drain(app)
    with pytest.raises(JobCancelled, match="changed my mind"):
        job.result(timeout=0)
    app.store.pause("held", on=False)
    assert drain(app) == 0
    assert export.tried[1] == 0
    assert [piece.state for piece in job.pieces()] == [State.COMPLETED, State.CANCELLED, State.COMPLETED]
