"""Pieces are streamed: they run while others are made, and never are all of them in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

from piecework import Piece, Pieces, Piecework
from piecework.engine import splitter
from piecework.job import State
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]


def test_the_first_pieces_run_before_the_generator_ends(app: Piecework, until: Until) -> None:
    ran: list[int] = []
    ran_before_the_end: list[int] = []

    @app.task
    def part(n: int) -> None:
        ran.append(n)

    @app.split
    def whole() -> Iterator[Piece[None]]:
        for n in range(200):
            yield part.piece(n)
        until(lambda: ran)
        ran_before_the_end.extend(ran)

    job = whole.later()
    with app.worker(concurrency=2):
        job.result(timeout=30)
    assert ran_before_the_end
    assert sorted(ran) == list(range(200))


def test_a_slow_generator_stores_what_it_has_within_a_moment(app: Piecework, until: Until) -> None:
    """Even a single piece does not wait for company that is long in coming."""
    ran: list[int] = []

    @app.task
    def part(n: int) -> None:
        ran.append(n)

    @app.split
    def whole() -> Iterator[Piece[None]]:
        yield part.piece(0)
        asked = app.clock.monotonic()
        until(lambda: app.clock.monotonic() - asked > 2 * splitter.BITE_SECONDS)
        yield part.piece(1)
        until(lambda: 0 in ran)

    job = whole.later()
    with app.worker(concurrency=2):
        job.result(timeout=30)
    assert sorted(ran) == [0, 1]


def test_a_generator_of_200_000_pieces_is_never_materialised(app: Piecework) -> None:
    n = 200_000
    alive: list[int] = []

    @app.task(queue="nobody")
    def part(n: int) -> None: ...

    @app.split(queue="splits")
    def whole() -> Iterator[Piece[None]]:
        for m in range(n):
            if m % 25_000 == 0 and m:
                alive.append(sum(isinstance(thing, Piece) for thing in gc.get_objects()))
            yield part.piece(m)

    job = whole.later()
    app.store.pause("nobody")
    drain(app)
    assert job.state is State.WAITING
    assert job.batch is not None
    assert (job.batch.total, job.batch.open, job.batch.sealed) == (n, n, True)
    assert len(alive) == 7
    assert max(alive) <= 2 * splitter.LARGEST_BITE


def test_a_compose_reads_results_a_page_at_a_time(app: Piecework) -> None:
    n, size = 8_000, 2_000
    peak: list[int] = []
    lengths: list[int] = []

    @app.task
    def part(n: int) -> str:
        return "x" * size

    @app.split
    def whole() -> Iterator[Piece[str]]:
        for m in range(n):
            yield part.piece(m)

    @whole.compose
    def join(pieces: Pieces[str]) -> int:
        tracemalloc.start()
        try:
            total = sum(map(len, pieces.results()))
            peak.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        lengths.append(len(pieces))
        return total

    job = whole.later()
    drain(app)
    assert job.result(timeout=0) == n * size
    assert lengths == [n]
    assert peak[0] < n * size / 3  # sixteen megabytes of results


def test_results_can_be_read_twice_and_not_at_all(app: Piecework) -> None:
    @app.task
    def part(n: int) -> int:
        return n

    @app.split
    def whole() -> Iterator[Piece[int]]:
        yield from (part.piece(n) for n in range(3))

    @whole.compose
    def join(pieces: Pieces[int]) -> list[int]:
        return [*pieces.results(), *pieces.results()]

    job = whole.later()
    drain(app)
    assert job.result(timeout=0) == [0, 1, 2, 0, 1, 2] == whole()
