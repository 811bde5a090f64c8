"""S0-3, S0-4, S0-6, S0-8, S0-9: the compose is released once, by the last piece, whatever races, repeats and dies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from leaping import LeapingClock

from piecework import Piece, Pieces, Piecework, current
from piecework.ids import new_id
from piecework.job import Answer, BatchState, Claim, Fetched, Filter, NewBatch, NewJob, OnFailure, SessionRecord, State
from piecework.outcome import Settlement
from piecework.store import Store, open_store
from piecework.testing.drain import drain

Until = Callable[[Callable[[], object]], None]

# ── S0-3 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_3_a_compose_does_not_fire_while_pieces_are_still_made(
    app: Piecework, leaping: LeapingClock, until: Until
) -> None:
    """Each piece has completed before the next one is created: five times, nothing is unfinished."""
    job_of: list[Any] = []
    composed: list[list[int]] = []
    sealed_at_compose: list[bool] = []

    def so_far(n: int) -> bool:
        return n == 0 or job_of[0].batch.completed == n

    @app.task
    def part(n: int) -> int:
        return n

    @app.split
    def whole() -> Iterator[Piece[int]]:
        for n in range(5):
            until(partial(so_far, n))
            assert composed == []
            assert job_of[0].state is State.RUNNING
            leaping.leap(1)  # so that the piece is stored now, and not with the next fifty
            yield part.piece(n)

    @whole.compose
    def join(pieces: Pieces[int]) -> list[int]:
        composed.append(list(pieces.results()))
        sealed_at_compose.append(job_of[0].batch.sealed)
        return composed[-1]

    job_of.append(whole.later())
    with app.worker(concurrency=3):
        assert job_of[0].result(timeout=30) == [0, 1, 2, 3, 4]
    assert composed == [[0, 1, 2, 3, 4]]
    assert sealed_at_compose == [True]


# ── on the store: races and repeats ──────────────────────────────────────────────────────────────


def enlisted(store: Store, *sessions: str) -> None:
    for session in sessions:
        store.enlist(SessionRecord(id=session, beat=0, started_at=1, seen_at=1, name="n", host="h", pid=1))


def claims(worker: str) -> Iterator[Claim]:
    number = 0
    while True:
        number += 1
        yield Claim(worker, number, 10_000, None)


def completed(run: Fetched, result: str = '"ok"') -> Settlement:
    return Settlement(run.id, run.run, State.COMPLETED, run.attempt + 1, run.queue, result=result, batch=run.batch)


def sealed(run: Fetched, total: int) -> Settlement:
    return Settlement(run.id, run.run, State.WAITING, 0, run.queue, cursor="compose", seal=total)


def offer(store: Store, run: Fetched, ordinals: Sequence[int]) -> list[str]:
    pieces = [
        NewJob(id=new_id(), task="leaf", args=f'{{"n":{n}}}', queue="leaves", batch=run.id, root=run.id, ordinal=n)
        for n in ordinals
    ]
    return store.add(pieces, batch=NewBatch(run.id, run.id, OnFailure.FINISH), fence=run.fence)


def split_into(store: Store, n: int, splits: int = 1) -> tuple[list[str], list[Fetched]]:
    """Splits that wait for their pieces, and the pieces, fetched by the worker `w.1`."""
    store.add([NewJob(id=new_id(), task="split", args="{}", queue="splits") for _ in range(splits)])
    runs = store.fetch(Claim("s.1", 1, splits))
    for run in runs:
        offer(store, run, range(n))
    store.settle([sealed(run, n) for run in runs])
    pieces = store.fetch(Claim("w.1", 1, n * splits, ("leaves",)))
    assert len(pieces) == n * splits
    return [run.id for run in runs], pieces


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Stores on one file, each with connections of its own."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_store(f"sqlite:///{tmp_path}/jobs.db?synchronous=normal"))
        return opened[-1]

    first = open_one()
    first.migrate()
    enlisted(first, "s", "w", "c")
    yield open_one
    for store in opened:
        store.close()


def at_once(works: Sequence[Callable[[], None]]) -> None:
    """Runs all on threads; fails with the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)


def test_s0_4_two_pieces_that_finish_together_compose_once_in_each_of_200_rounds(connect: Callable[[], Store]) -> None:
    rounds = 200
    store = connect()
    splits, pieces = split_into(store, 2, rounds)
    pair = {split: [piece for piece in pieces if piece.batch == split] for split in splits}
    barrier = threading.Barrier(2, timeout=60)

    def finish(side: int, own: Store) -> None:
        for split in splits:
            barrier.wait()
            assert own.settle([completed(pair[split][side])]) == [Answer.OK]

    at_once([partial(finish, side, connect()) for side in range(2)])

    composes = store.fetch(Claim("c.1", 1, 10 * rounds))
    assert sorted(run.id for run in composes) == sorted(splits)
    assert store.settle([completed(run) for run in composes]) == [Answer.OK] * rounds
    assert store.fetch(Claim("c.1", 2, 10 * rounds)) == []
    assert store.repair(limit=10 * rounds) == []


def test_s0_4_of_2000_pieces_on_20_workers_with_repeated_completions_one_compose_comes(
    connect: Callable[[], Store],
) -> None:
    workers, n = 20, 2000
    store = connect()
    (split,), pieces = split_into(store, n)
    barrier = threading.Barrier(workers, timeout=60)
    answers: list[list[Answer]] = [[] for _ in range(workers)]

    def work(number: int, own: Store) -> None:
        mine = pieces[number::workers]
        # Every seventh completion is delivered again, by this worker and by its neighbour.
        again = [piece for m, piece in enumerate(mine) if m % 7 == 0]
        neighbours = [piece for m, piece in enumerate(pieces[(number + 1) % workers :: workers]) if m % 7 == 0]
        barrier.wait()
        for start in range(0, len(mine), 10):
            bite = mine[start : start + 10]
            answers[number] += own.settle([completed(piece) for piece in [*bite, *(p for p in bite if p in again)]])
        answers[number] += own.settle([completed(piece) for piece in neighbours])

    at_once([partial(work, number, connect()) for number in range(workers)])

    every = [answer for own in answers for answer in own]
    assert every.count(Answer.OK) == n
    assert set(every) == {Answer.OK, Answer.ALREADY}
    assert len(every) > n + n // 7
    batch = store.batch(split)
    assert batch is not None
    assert (batch.total, batch.completed, batch.open, batch.state) == (n, n, 0, BatchState.DONE)
    composes = store.fetch(Claim("c.1", 1, 100))
    assert [run.id for run in composes] == [split]
    assert store.repair(limit=100) == []


# ── S0-6 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_6_a_finished_piece_that_is_finished_again_changes_nothing(connect: Callable[[], Store]) -> None:
    store = connect()
    (split,), (first, second) = split_into(store, 2)
    store.settle([completed(first, '"one"'), completed(second, '"two"')])
    (compose,) = store.fetch(Claim("c.1", 1, 10))
    store.settle([completed(compose, '"whole"')])
    before = (store.find(Filter(), limit=100), store.batch(split), store.counts())

    assert store.settle([completed(first, '"other"')]) == [Answer.ALREADY]
    assert store.settle([completed(msgspec.structs.replace(first, run=99))]) == [Answer.STALE]
    assert store.retry(Filter(ids=(first.id,))) == 0
    assert store.cancel(Filter(ids=(first.id,)), reason="late") == 0
    assert store.seal(split) is False
    assert (store.find(Filter(), limit=100), store.batch(split), store.counts()) == before
    assert store.fetch(Claim("c.1", 2, 10)) == []


def test_s0_6_retrying_what_completed_does_nothing(app: Piecework) -> None:
    composed: list[int] = []

    @app.task
    def part(n: int) -> int:
        return n

    @app.split
    def whole() -> Iterator[Piece[int]]:
        yield part.piece(1)

    @whole.compose
    def join(pieces: Pieces[int]) -> int:
        composed.append(1)
        return sum(pieces.results())

    job = whole.later()
    drain(app)
    (piece,) = job.pieces()
    assert not piece.retry()
    assert not job.retry()
    assert not job.cancel()
    assert drain(app) == 0
    assert composed == [1]
    assert job.result(timeout=0) == 1


# ── S0-8 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_8_a_splitter_that_dies_after_two_of_five_pieces_makes_five_not_seven(
    app: Piecework, leaping: LeapingClock, until: Until
) -> None:
    composed: list[list[int]] = []
    ran: list[int] = []
    stored_before_death: list[int] = []

    @app.task
    def part(n: int) -> int:
        ran.append(n)
        return n

    @app.split(retry=0)
    def whole() -> Iterator[Piece[int]]:
        for n in range(5):
            if n == 2 and current.attempt == 1:
                batch = app.store.batch(current.id)
                assert batch is not None
                stored_before_death.append(batch.total)
                raise OSError("the splitter dies")
            leaping.leap(1)
            yield part.piece(n)

    @whole.compose
    def join(pieces: Pieces[int]) -> list[int]:
        composed.append(list(pieces.results()))
        return composed[-1]

    job = whole.later()
    with app.worker(concurrency=3):
        assert job.result(timeout=30) == [0, 1, 2, 3, 4]
    assert stored_before_death == [2]
    assert composed == [[0, 1, 2, 3, 4]]
    assert sorted(ran) == [0, 1, 2, 3, 4]
    assert len(list(job.pieces())) == 5
    assert [line.outcome for line in job.attempts()] == ["retry"]


def test_s0_8_a_splitter_whose_worker_is_lost_is_run_again_by_another_and_makes_none_twice(
    connect: Callable[[], Store],
) -> None:
    store = connect()
    (split,) = store.add([NewJob(id=new_id(), task="split", args="{}", queue="splits")])
    (first,) = store.fetch(Claim("s.1", 1, 1))
    two = offer(store, first, range(2))
    store.bury("s")
    enlisted(store, "s2")
    (second,) = store.fetch(Claim("s2.1", 1, 1, ("splits",)))
    assert (second.id, second.run) == (split, first.run + 1)
    five = offer(store, second, range(5))
    assert five[:2] == two
    assert store.settle([sealed(second, 5), sealed(first, 2)]) == [Answer.OK, Answer.STALE]
    batch = store.batch(split)
    assert batch is not None
    assert (batch.total, batch.open) == (5, 5)


def test_s0_8_a_splitter_that_offers_other_pieces_the_second_time_fails_and_names_them(
    app: Piecework, leaping: LeapingClock
) -> None:
    offered: Iterator[list[str | None]] = iter([["a", "b", None], ["a", "x"]])

    @app.task
    def part(text: str) -> str:
        return text

    @app.split(retry=0)
    def whole() -> Iterator[Piece[str]]:
        for n, text in enumerate(next(offered)):
            if text is None:
                raise OSError("dies")
            leaping.leap(1)
            yield part.using(key=f"place-{n}").piece(text)

    job = whole.later()
    drain(app)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type.endswith("SplitChanged")
    assert "'place-1'" in job.error.message


def test_s0_8_a_splitter_that_offers_fewer_pieces_the_second_time_fails_and_names_one(
    app: Piecework, leaping: LeapingClock
) -> None:
    """The batch would be sealed at two, with three in it."""
    offered: Iterator[list[str | None]] = iter([["a", "b", "c", None], ["a", "b"]])

    @app.task
    def part(text: str) -> str:
        return text

    @app.split(retry=0)
    def whole() -> Iterator[Piece[str]]:
        for text in next(offered):
            if text is None:
                raise OSError("dies")
            leaping.leap(1)
            yield part.using(key=text).piece(text)

    @whole.compose
    def join(pieces: Pieces[str]) -> list[str]:
        return list(pieces.results())

    job = whole.later()
    drain(app)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type.endswith("SplitChanged")
    assert "earlier run had offered: c." in job.error.message


# ── S0-9 ─────────────────────────────────────────────────────────────────────────────────────────


def test_s0_9_a_compose_that_dies_before_it_is_recorded_is_run_again_alone(app: Piecework) -> None:
    computed: list[int] = []
    ran: list[int] = []
    followed: list[int] = []

    @app.task
    def part(n: int) -> int:
        ran.append(n)
        return n

    @app.split(retry=0)
    def inner() -> Iterator[Piece[int]]:
        yield part.piece(1)
        yield part.piece(2)

    @inner.compose
    def add_up(pieces: Pieces[int]) -> int:
        computed.append(sum(pieces.results()))
        if len(computed) == 1:
            raise OSError("dies after computing")
        return computed[-1] * 10

    @app.split
    def outer() -> Iterator[Piece[int]]:
        yield inner.piece()

    @outer.compose
    def follow(pieces: Pieces[int]) -> int:
        followed.append(1)
        return sum(pieces.results())

    job = outer.later()
    drain(app)
    assert job.result(timeout=0) == 30
    assert computed == [3, 3]
    assert sorted(ran) == [1, 2]
    assert followed == [1]


def test_s0_9_of_two_workers_that_composed_the_one_that_owns_the_run_is_heard(connect: Callable[[], Store]) -> None:
    store = connect()
    (split,), pieces = split_into(store, 2)
    store.settle([completed(piece) for piece in pieces])
    (first,) = store.fetch(Claim("c.1", 1, 1))
    store.bury("c")
    enlisted(store, "d")
    (second,) = store.fetch(Claim("d.1", 1, 1))
    assert (first.id, second.id) == (split, split)
    assert store.settle([completed(first, '"lost"')]) == [Answer.STALE]
    assert store.settle([completed(second, '"final"')]) == [Answer.OK]
    assert store.settle([completed(first, '"lost"')]) == [Answer.STALE]
    (record,) = store.get([split])
    assert (record.state, record.result) == (State.COMPLETED, '"final"')
    assert store.fetch(Claim("d.1", 2, 10)) == []
