"""Splits of any size on the SQLite shelf: they are cancelled, cleared and brought back in bites that hold up nobody.

The bites are made small here, so that a few pieces are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import locked_file

from piecework.errors import StoreUnavailable
from piecework.job import BatchState, Filter, State
from piecework.store.sql import fanin, retry, sweep, verbs
from piecework.store.sqlite.store import SqliteStore
from piecework.store.sqlite.transaction import Transaction
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    LEAVES,
    a_claim,
    at_work,
    batch,
    complete_leaves,
    completed,
    compose,
    failed,
    fetch,
    leaves,
    split,
    state,
    tally,
)
from piecework.testing.conformance.operators import nest, only

N = 40
BITE = 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def store(path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    monkeypatch.setattr(fanin, "STOP_BITE", BITE)
    monkeypatch.setattr(retry, "BITE", BITE)
    monkeypatch.setattr(sweep, "PAGE", BITE)
    monkeypatch.setattr(verbs, "CLEARING_PAUSE", 0.0)
    with at_work(SqliteStore(f"sqlite:///{path}", clock=clock)) as store:
        yield store


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each transaction moved from one state to another."""
    moved: list[int] = []
    finish = Transaction.finish

    def counted(tx: Transaction) -> None:
        moved.append(sum(n for n in tx.tally.values() if n > 0))
        finish(tx)

    monkeypatch.setattr(Transaction, "finish", counted)
    return moved


def stopped(store: SqliteStore) -> str:
    """A split that was cancelled, all of whose pieces have been cleared away."""
    id, _ = split(store, N)
    store.cancel(only(id), reason="no")
    assert leaves(store, 1) == []
    return id


def test_cancelling_takes_a_bite_and_fetches_clear_the_rest(store: SqliteStore, moves: list[int]) -> None:
    id, _ = split(store, N)
    moves.clear()
    assert store.cancel(only(id), reason="no") == 1
    assert tally(store, id) == (N - BITE, 0, 0, BITE)
    assert leaves(store, 1) == []
    assert tally(store, id) == (0, 0, 0, N)
    assert max(moves) <= BITE + 1


def test_a_fetch_finds_what_stands_behind_dead_pieces(store: SqliteStore, clock: FrozenClock) -> None:
    """However many they are: an empty answer would tell the worker that there is nothing to do."""
    id, _ = split(store, N)
    clock.advance(1)
    alive, _ = split(store, 2)
    store.cancel(only(id), reason="no")
    assert [run.batch for run in leaves(store, 1)] == [alive]
    assert tally(store, id) == (0, 0, 0, N)


def test_an_exchange_finds_what_stands_behind_dead_pieces(store: SqliteStore, clock: FrozenClock) -> None:
    busy, _ = split(store, 1)
    (run,) = leaves(store, 1)
    id, _ = split(store, N)
    clock.advance(1)
    alive, _ = split(store, 2)
    store.cancel(only(id), reason="no")
    answers, runs = store.exchange([completed(run)], a_claim(limit=1, queues=(LEAVES,)))
    assert [(answer, found.batch) for answer, found in zip(answers, runs, strict=True)] == [("ok", alive)]
    assert batch(store, busy).state is BatchState.DONE


def test_pieces_that_no_fetch_meets_are_swept_up(store: SqliteStore, moves: list[int]) -> None:
    id, _ = split(store, N)
    store.pause(LEAVES)
    store.cancel(only(id), reason="no")
    moves.clear()
    store.repair()
    assert tally(store, id) == (0, 0, 0, N)
    assert max(moves) <= BITE


def test_a_sweep_goes_on_where_the_last_one_stopped(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PAGES", 2)
    ids = [split(store, N)[0] for _ in range(2)]
    store.pause(LEAVES)
    store.cancel(Filter(ids=tuple(ids)), reason="no")
    left = []
    for _ in range(12):
        store.repair()
        left.append(sum(batch(store, id).open for id in ids))
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


def test_what_is_swept_is_dead(store: SqliteStore) -> None:
    """A live split beside it is left alone."""
    id, _ = split(store, N)
    alive, _ = split(store, N)
    store.pause(LEAVES)
    store.cancel(only(id), reason="no")
    store.repair()
    assert tally(store, alive) == (N, 0, 0, 0)


def test_a_sound_store_is_looked_at_without_the_lock(store: SqliteStore, path: Path) -> None:
    split(store, 3)
    with locked_file(path):
        assert store.repair() == []


def test_retrying_brings_all_pieces_back_in_bites(store: SqliteStore, moves: list[int]) -> None:
    id = stopped(store)
    moves.clear()
    assert store.retry(only(id)) == 1
    assert tally(store, id) == (N, 0, 0, 0)
    assert max(moves) <= BITE + 1
    complete_leaves(store)
    compose(store, id)
    assert state(store, id) is State.COMPLETED


def test_retrying_a_tree_of_splits_comes_back_in_bites(store: SqliteStore, moves: list[int]) -> None:
    root, inner, _ = nest(store)
    store.cancel(only(root), reason="no")
    leaves(store, 1)
    assert store.retry(only(root)) == 1
    assert (state(store, root), state(store, inner)) == (State.WAITING, State.WAITING)
    complete_leaves(store)
    compose(store, inner)
    compose(store, root)
    assert state(store, root) is State.COMPLETED


def test_while_a_retry_goes_on_the_split_does_not_end(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces that came back first may complete before the last one has."""
    id = stopped(store)
    goes_on = retry.goes_on

    def late(back: retry.Return) -> Callable[[Any], retry.Return]:
        assert batch(store, id).state is BatchState.OPEN
        assert batch(store, id).sealed
        return goes_on(back)

    rounds: list[int] = []

    def busy(seconds: float) -> None:
        rounds.append(len(runs := fetch(store, N, queue=LEAVES)))
        store.settle([completed(run) for run in runs])

    monkeypatch.setattr(retry, "goes_on", late)
    monkeypatch.setattr(verbs.time, "sleep", busy)
    assert store.retry(only(id)) == 1
    assert len(rounds) > N // BITE - 2
    monkeypatch.undo()
    complete_leaves(store)
    assert tally(store, id) == (0, N, 0, 0)
    compose(store, id)


def test_a_retry_whose_process_dies_leaves_a_split_that_can_be_retried(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = stopped(store)

    def die(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(retry, "goes_on", die)
        with pytest.raises(StoreUnavailable):
            store.retry(only(id))
    complete_leaves(store)
    assert tally(store, id) == (0, BITE, 0, N - BITE)
    assert state(store, id) is State.WAITING
    store.repair()
    assert state(store, id) is State.WAITING  # for all that one round knows, the call is still at it
    store.repair()
    assert state(store, id) is State.FAILED
    assert store.retry(only(id)) == 1
    complete_leaves(store)
    compose(store, id)
    assert tally(store, id) == (0, N, 0, 0)


def test_a_split_that_is_cancelled_while_it_comes_back_is_cancelled(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = stopped(store)
    once: list[float] = []

    def cancel(seconds: float) -> None:
        if not once:
            once.append(seconds)
            store.cancel(only(id), reason="no, really")

    monkeypatch.setattr(verbs.time, "sleep", cancel)
    store.retry(only(id))
    monkeypatch.undo()
    assert leaves(store, 1) == []
    assert (state(store, id), batch(store, id).state) == (State.CANCELLED, BatchState.STOPPED)
    assert tally(store, id) == (0, 0, 0, N)
    assert store.retry(only(id)) == 1
    assert tally(store, id) == (N, 0, 0, 0)


def test_the_first_failures_are_found_among_many(store: SqliteStore) -> None:
    """A page of failures in the order of the pieces, whatever their ends."""
    id, _ = split(store, N)
    runs = leaves(store, N)
    store.settle([failed(run) if n % 2 else completed(run) for n, run in enumerate(runs[:30])])
    assert [piece.ordinal for piece in store.pieces(id, failed=True, limit=4)] == [1, 3, 5, 7]
    assert [piece.ordinal for piece in store.pieces(id, failed=True, after=7, limit=3)] == [9, 11, 13]
