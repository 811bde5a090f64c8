"""Long work on the Redis shelf goes in bites that hold up nobody, and a bite that never came is made up for.

The bites are made small here, so that a few jobs are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import books
from tests.redis_bites import small_bites

from piecework.errors import StoreUnavailable
from piecework.job import Amendment, Answer, BatchState, Filter, NewBatch, NewSignal, OnFailure, State, Wait
from piecework.store import Store, open_store
from piecework.store.redis.shard import Shard
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    EVERYTHING,
    LEAVES,
    SPLITS,
    a_job,
    at_work,
    batch,
    complete_leaves,
    completed,
    compose,
    everything,
    failed,
    fetch,
    fetch_one,
    leaves,
    offer,
    pieces_of,
    retried,
    settle,
    split,
    splitting,
    state,
    tally,
    waiting,
)
from piecework.testing.conformance.operations import change, started, stepped
from piecework.testing.conformance.operators import nest, only

N = 40
MOST = 20  # jobs that any of these small scripts moves


@pytest.fixture(autouse=True)
def bites() -> Iterator[None]:
    with small_bites():
        yield


@pytest.fixture
def shelf() -> str:
    return "redis"


@pytest.fixture
def store(store_url: str, clock: FrozenClock) -> Iterator[Store]:
    with at_work(open_store(store_url, clock=clock)) as store:
        yield store
    assert books(store_url) == []


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each script moved from one state to another, or deleted."""
    moved: list[int] = []
    run = Shard.run

    def counted(shard: Shard, title: str, asked: Any = (), *more: bytes) -> Any:
        before = run(shard, "kept", {"kind": "counts"})
        answer = run(shard, title, asked, *more)
        after = run(shard, "kept", {"kind": "counts"})
        kept, left = (dict(zip(said[::2], map(int, said[1::2]), strict=True)) for said in (before, after))
        moved.append(sum(max(0, n - left.get(place, 0)) for place, n in kept.items()))
        return answer

    monkeypatch.setattr(Shard, "run", counted)
    return moved


# ── searching ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize(
    "which",
    [
        Filter(),
        Filter(queue="a"),
        Filter(task="rare"),
        Filter(task="rare", queue="b"),
        Filter(state=State.AVAILABLE),
        Filter(queue="b", state=State.COMPLETED),
        Filter(state=State.RUNNING),
        Filter(worker="w.1"),
        Filter(key="k"),
        Filter(operations=False),
    ],
)
def test_a_search_goes_on_where_the_last_script_stopped(store: Store, which: Filter, newest: bool) -> None:
    jobs = [
        a_job(queue="ab"[n % 2], task="rare" if n % 13 == 0 else "t", key="k" if n == 30 else None) for n in range(N)
    ]
    store.add(jobs)
    taken = fetch(store, 12)
    store.settle([completed(run) for run in taken[:8]])
    wanted = [job.id for job in store.get([job.id for job in jobs]) if _matches(job, which)]
    assert wanted
    found = [job.id for job in store.find(which, limit=1000, newest=newest)]
    assert found == (wanted[::-1] if newest else wanted)
    assert store.count(which) == len(wanted)
    assert [job.id for job in store.find(which, limit=1, newest=newest)] == found[:1]


def _matches(job: Any, which: Filter) -> bool:
    fields = ("queue", "task", "state", "key", "worker")
    return all(getattr(which, name) in (None, getattr(job, name)) for name in fields)


def test_many_ids_are_searched_in_the_order_of_arrival(store: Store) -> None:
    ids = store.add([a_job(queue="ab"[n % 2]) for n in range(1100)])
    wanted = ids[::2]
    assert [job.id for job in store.find(Filter(ids=tuple(reversed(ids)), queue="a"), limit=2000)] == wanted
    assert store.count(Filter(ids=tuple(ids), queue="a")) == len(wanted)
    assert [job.id for job in store.get(ids)] == ids


def test_a_batch_of_any_size_is_found_in_the_order_of_arrival(store: Store) -> None:
    id, pieces = split(store, 12)
    store.add([a_job(queue=LEAVES) for _ in range(5)])
    store.settle([failed(run) for run in leaves(store, 6)])
    assert [job.id for job in store.find(Filter(batch=id))] == pieces
    assert [job.id for job in store.find(Filter(batch=id, state=State.FAILED))] == pieces[:6]
    assert [piece.id for piece in store.pieces(id)] == pieces
    assert [piece.id for piece in store.pieces(id, failed=True)] == pieces[:6]
    assert store.count(Filter(batch=id)) == 12


def test_the_queues_are_looked_at_in_bites(store: Store, clock: FrozenClock) -> None:
    for n in range(8):
        store.add([a_job(queue=f"q{n % 3}", priority=-n)])
        clock.advance(1)
    assert store.oldest_due() == pytest.approx({"q0": 8.0, "q1": 7.0, "q2": 6.0})


def test_a_long_history_is_read_in_bites(store: Store) -> None:
    run = started(store)
    for visit in range(2, 12):
        settle(store, stepped(run, f"main/b/{visit}", State.AVAILABLE))
        run = fetch_one(store)
    assert [line.run for line in store.attempts(run.id)] == list(range(1, 11))
    assert [line.run for line in store.attempts(run.id, newest=True, before=9, limit=5)] == [8, 7, 6, 5, 4]


def test_what_was_told_to_an_operation_is_read_in_bites(store: Store) -> None:
    """In the order in which it came, whatever its name; what was taken is in another list."""
    run = started(store)
    names = ["yes", "no", "yes", "ä", "no"] * 3
    for n, name in enumerate(names):
        store.signal(run.id, NewSignal(id=f"s{n}", name=name, payload=str(n)))
    settle(store, stepped(run, "main/b/2", State.WAITING, wait=Wait("no", into="said")))
    for n in range(12):
        by_hand = Amendment(id=f"a{n}", what="edited", by="me", changes=(change("n", n),))
        assert store.amend(run.id, "main/b/2", by_hand) is Answer.OK
    assert [(told.id, told.name) for told in store.signals(run.id)] == [(f"s{n}", name) for n, name in enumerate(names)]
    assert [told.taken_at is not None for told in store.signals(run.id)].index(True) == 1
    assert [deed.id for deed in store.amendments(run.id)] == [f"a{n}" for n in range(12)]


@pytest.mark.parametrize("offered", [N - 1, N - 8, 0])
def test_a_large_split_that_was_offered_otherwise_is_looked_through_in_bites(
    store: Store, monkeypatch: pytest.MonkeyPatch, offered: int
) -> None:
    run = splitting(store)
    offer(store, run, pieces_of(run, [f"p{n}" for n in range(N)]))
    settle(store, retried(run))
    again = fetch_one(store, queue=SPLITS)
    offer(store, again, pieces_of(again, [f"p{n}" for n in range(offered)]))
    looks, call = [], Shard.run
    monkeypatch.setattr(Shard, "run", lambda shard, title, *told: (looks.append(title), call(shard, title, *told))[1])
    assert settle(store, waiting(again, offered)) is Answer.OK
    (found,) = store.get([again.id])
    assert found.error is not None
    named = [f"p{n}" for n in range(offered, N)][:5]
    assert (found.state, found.error.type) == (State.FAILED, "SplitChanged")
    assert f": {', '.join(named)}{', …' if N - offered > 5 else ''}. Make" in found.error.message
    assert (looks.count("strays") > 2) == (offered > 5)
    assert settle(store, waiting(again, offered)) is Answer.ALREADY


def test_a_large_split_whose_missing_pieces_were_cancelled_is_sealed(store: Store) -> None:
    run = splitting(store)
    offer(store, run, pieces_of(run, [f"p{n}" for n in range(N)]))
    settle(store, retried(run))
    again = fetch_one(store, queue=SPLITS)
    store.cancel(Filter(ids=(store.pieces(again.id)[-1].id,)), reason="left over")
    offer(store, again, pieces_of(again, [f"p{n}" for n in range(N - 1)]))
    assert settle(store, waiting(again, N - 1)) is Answer.OK
    assert (state(store, again.id), batch(store, again.id).sealed) == (State.WAITING, True)


# ── who is gone ──────────────────────────────────────────────────────────────────────────────────


def test_the_jobs_of_a_session_come_back_in_bites(store: Store, moves: list[int]) -> None:
    store.add([a_job() for _ in range(23)])
    fetch(store, 23)
    moves.clear()
    assert store.bury("w", beat=0) == 23
    assert sorted(n for n in moves if n) == [3, 5, 5, 5, 5]
    assert [session.id for session in store.sessions()] == ["composer", "splitter"]
    assert store.bury("w") == 0


def test_a_burial_that_broke_off_is_ended_by_another(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([a_job() for _ in range(23)])
    fetch(store, 23)
    with monkeypatch.context() as patched:
        run, left = Shard.run, [None] * 2

        def broken(shard: Shard, title: str, *told: Any) -> Any:
            if not left:
                raise StoreUnavailable("the store is away")
            left.pop()
            return run(shard, title, *told)

        patched.setattr(Shard, "run", broken)
        with pytest.raises(StoreUnavailable):
            store.bury("w", beat=0)
    assert [store.count(Filter(state=state)) for state in (State.AVAILABLE, State.RUNNING)] == [10, 13]
    assert not store.renew("w")
    assert [session.beat for session in store.sessions() if session.id == "w"] == [0]
    assert store.bury("w", beat=1) is None
    assert store.bury("w", beat=0) == 13
    assert [store.count(Filter(state=state)) for state in (State.AVAILABLE, State.RUNNING)] == [23, 0]


def test_the_jobs_of_a_worker_come_back_in_bites(store: Store, moves: list[int]) -> None:
    ids = store.add([a_job() for _ in range(12)])
    fetch(store, 12)
    moves.clear()
    assert sorted(store.reap("w.1", crashed=ids[:7], reason="it died")) == sorted(ids)
    assert sorted(n for n in moves if n) == [2, 5, 5]
    assert [job.crashes for job in store.get(ids)] == [1] * 7 + [0] * 5


# ── trees ────────────────────────────────────────────────────────────────────────────────────────


def test_a_tree_is_cancelled_a_bite_at_once_and_swept_up(store: Store, moves: list[int]) -> None:
    id, _ = split(store, N)
    store.pause(LEAVES)
    assert store.cancel(only(id), reason="no") == 1
    assert tally(store, id)[3] < N
    store.repair()
    assert tally(store, id) == (0, 0, 0, N)
    assert 0 < max(moves) <= MOST


def test_many_jobs_are_cancelled_and_brought_back_in_bites(store: Store, moves: list[int]) -> None:
    ids = store.add([a_job() for _ in range(N)])
    assert store.cancel(EVERYTHING, reason="no", by="ann", limit=N - 1) == N - 1
    assert store.count(Filter(state=State.AVAILABLE)) == 1
    assert store.retry(only(*ids), limit=N) == N - 1
    assert 0 < max(moves) <= MOST


def test_a_tree_comes_back_in_bites(store: Store, moves: list[int]) -> None:
    id, _ = split(store, N)
    store.settle([failed(run) for run in leaves(store, N)])
    moves.clear()
    assert store.retry(only(id)) == 1
    assert (tally(store, id), state(store, id)) == ((N, 0, 0, 0), State.WAITING)
    assert 0 < max(moves) <= MOST
    complete_leaves(store)
    compose(store, id)


def test_a_nested_tree_comes_back_in_all_its_depth(store: Store) -> None:
    root, inner, pieces = nest(store)
    store.cancel(only(root), reason="no")
    store.repair()
    assert store.retry(only(root)) == 1
    assert [job.state for job in store.get([root, inner, *pieces])] == [State.WAITING] * 2 + [State.AVAILABLE] * 2


def test_a_tree_of_many_splits_is_closed_in_bites(store: Store, moves: list[int]) -> None:
    """No fetch would meet what waits: it has ended when the call has."""
    root, inner = split_of_splits(store, 12)
    running = leaves(store, 3)
    moves.clear()
    assert store.cancel(only(root), reason="no") == 1
    assert {job.state for job in store.get([root, *inner])} == {State.CANCELLED}
    assert {batch(store, id).state for id in inner} == {BatchState.STOPPED}
    assert all(job.stopping for job in store.get([run.id for run in running]))
    assert 0 < max(moves) <= MOST


def test_what_fails_by_itself_is_closed_by_a_sweep(store: Store, moves: list[int]) -> None:
    root, inner = split_of_splits(store, 12, OnFailure.FAIL_FAST)
    moves.clear()
    store.settle([failed(leaves(store, 1)[0])])
    assert (state(store, root), batch(store, root).state) == (State.FAILED, BatchState.FAILED)
    for _ in range(2):  # batches that one sweep closes are seen by the next
        store.repair(limit=100)
    assert {job.state for job in store.get(inner)} <= {State.CANCELLED, State.FAILED}
    assert store.count(Filter(state=State.AVAILABLE)) == store.count(Filter(state=State.WAITING)) == 0
    assert 0 < max(moves) <= MOST


def split_of_splits(store: Store, n: int, on_failure: OnFailure = OnFailure.FINISH) -> tuple[str, list[str]]:
    """A split that waits for splits that wait for two leaves each: its id and theirs."""
    run = splitting(store)
    inner = offer(store, run, pieces_of(run, n, queue=SPLITS), on_failure)
    settle(store, waiting(run, n))
    for below in fetch(store, n, worker="splitter.1", queue=SPLITS):
        offer(store, below, pieces_of(below, 2), on_failure)
        settle(store, waiting(below, 2))
    return run.id, inner


def test_a_batch_does_not_end_before_its_last_piece_has_come_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are back already complete in between, and the call comes to nothing after its first bite."""
    id, _ = split(store, N)
    store.settle([failed(run) for run in leaves(store, N)])
    with monkeypatch.context() as away:
        away.setattr(Shard, "run", _breaking("retry_on"))
        with pytest.raises(StoreUnavailable):
            store.retry(only(id))
    complete_leaves(store)
    held = batch(store, id)
    assert (held.state, held.open, held.sealed) == (BatchState.OPEN, 0, True)
    for _ in range(2):  # at the first look it may be that somebody is still at it
        assert store.repair() == []
    assert batch(store, id).state is BatchState.FAILED
    assert store.retry(only(id)) == 1
    complete_leaves(store)
    compose(store, id)


def test_a_tree_is_deleted_in_bites(store: Store, moves: list[int]) -> None:
    id, _ = split(store, N)
    complete_leaves(store)
    compose(store, id)
    moves.clear()
    assert store.delete(only(id)) == N + 1
    assert everything(store) == []
    assert 0 < max(moves) <= MOST


def test_what_an_interrupted_deletion_has_left_is_deleted_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id, _ = split(store, N)
    complete_leaves(store)
    compose(store, id)
    with monkeypatch.context() as away:
        away.setattr(Shard, "run", _breaking("dig", passages=3))
        with pytest.raises(StoreUnavailable):
            store.delete(only(id))
    assert 0 < len(everything(store)) < N
    store.repair()
    assert everything(store) == []


@pytest.mark.parametrize("verb", ["delete", "prune"])
def test_a_long_trail_goes_in_bites(store: Store, store_url: str, clock: FrozenClock, verb: str) -> None:
    run = started(store)
    for visit in range(2, 20):
        settle(store, stepped(run, f"main/b/{visit}", State.AVAILABLE))
        run = fetch_one(store)
    settle(store, stepped(run, "main/b/19", State.COMPLETED))
    clock.advance(1)
    if verb == "delete":
        assert store.delete(EVERYTHING) == 1
    else:
        assert [store.prune(before=clock.now()), store.prune(before=clock.now())] == [1, 0]
    assert store.attempts(run.id) == []
    assert books(store_url) == []


def test_a_large_tree_stays_while_one_of_its_pieces_runs(store: Store) -> None:
    id, _ = split(store, N)
    *_, last = leaves(store, N)
    store.cancel(only(id), reason="no")
    store.settle([completed(run) for run in leaves(store, N) if run.id != last.id])
    assert store.delete(EVERYTHING) == 0
    assert len(everything(store)) == N + 1


def test_pruning_goes_in_bites_and_begins_anew(store: Store, clock: FrozenClock, moves: list[int]) -> None:
    loose = NewBatch(id="loose")
    store.add([a_job(batch="loose", ordinal=n, queue=LEAVES) for n in range(N)], batch=loose)
    store.seal("loose")
    complete_leaves(store)
    clock.advance(10)
    young = store.add([a_job() for _ in range(N)])
    store.settle([completed(run) for run in fetch(store, N)])
    moves.clear()
    assert store.prune(before=clock.now() - 1) == N
    assert [job.id for job in everything(store)] == young
    clock.advance(10)
    assert [store.prune(before=clock.now(), limit=30), store.prune(before=clock.now(), limit=30)] == [30, 10]
    assert store.batch("loose") is None
    assert 0 < max(moves) <= MOST


def _breaking(title: str, passages: int = 0) -> Callable[..., Any]:
    """Runs scripts, but one of them only so often."""
    run, left = Shard.run, [passages]

    def broken(shard: Shard, asked_for: str, asked: Any = (), *more: bytes) -> Any:
        if asked_for == title:
            left[0] -= 1
            if left[0] < 0:
                raise StoreUnavailable("the store went away")
        return run(shard, asked_for, asked, *more)

    return broken
