"""Many at once on the PostgreSQL shelf: nobody waits for one who waits for him, and nothing is counted twice or not at all."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from tests.servers import Postgres

from piecework.job import Answer, BatchState, Filter, OnFailure, State
from piecework.store.postgres import database
from piecework.store.postgres.store import PostgresStore
from piecework.testing.conformance.kit import (
    SPLITS,
    a_claim,
    a_job,
    a_session,
    add,
    add_continuation,
    assert_sound,
    batch,
    completed,
    everything,
    failed,
    fetch,
    fetch_one,
    offer,
    pieces_of,
    retried,
    state,
    states,
    together,
    waiting,
)

WORKERS = 4
_names = itertools.count(1)


@pytest.fixture
def url(postgres: Postgres) -> str:
    return f"{postgres.url}?schema=many_{next(_names)}"


@pytest.fixture
def make(url: str) -> Iterator[Callable[[], PostgresStore]]:
    """As many stores on one schema as a test wants, each as a process of its own would have it."""
    made: list[PostgresStore] = []

    def make() -> PostgresStore:
        made.append(PostgresStore(url))
        return made[-1]

    yield make
    assert_sound(made[0])
    for store in made:
        store.close()


@pytest.fixture
def deadlocks(postgres: Postgres) -> Callable[[], int]:
    """How many deadlocks the server has had to break."""

    def count() -> int:
        with psycopg.connect(postgres.url, autocommit=True) as con:
            con.execute("SELECT pg_stat_clear_snapshot()")
            row = con.execute("SELECT sum(deadlocks) FROM pg_stat_database").fetchone()
            return int(row[0]) if row is not None else 0

    return count


class Fleet:
    """Workers on threads, each on a store of its own, that fetch and settle until they are told to stop."""

    def __init__(self, make: Callable[[], PostgresStore], end: Callable[[random.Random, Any], Any]) -> None:
        self._make = make
        self._end = end
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self.settled = 0

    def work(self, n: int) -> None:
        draw = random.Random(n)
        store, name = self._make(), f"w{n}.1"
        store.enlist(a_session(f"w{n}"))
        ends: list[Any] = []
        while True:
            try:
                answers, runs = store.exchange(ends, a_claim(name, draw.choice([1, 7, 50]), ("default",)))
            except BaseException as error:
                self.errors.append(error)
                return
            self.settled += answers.count(Answer.OK)
            if not runs and not ends and self.over.is_set():
                return
            ends = [self._end(draw, run) for run in runs]
            draw.shuffle(ends)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(WORKERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
        assert self.errors == []


def a_tree(store: PostgresStore, policy: OnFailure) -> str:
    """A split that waits for its pieces; these and its compose are for the fleet."""
    (id,) = store.add([a_job(task="split", queue="roots")])
    (run,) = store.fetch(a_claim("s.1", 1, ("roots",)))
    offered = offer(store, run, pieces_of(run, 20, queue="default"), policy, then_queue="default")
    assert store.settle([waiting(run, len(offered))]) == [Answer.OK]
    return id


def test_ends_of_many_trees_cross_without_a_deadlock(
    make: Callable[[], PostgresStore], deadlocks: Callable[[], int]
) -> None:
    """Each worker ends pieces of all trees in an order of its own, some badly, while people interfere."""
    store = make()
    store.migrate()
    store.enlist(a_session("s"))
    before = deadlocks()

    def end(draw: random.Random, run: Any) -> Any:
        return draw.choices([completed(run), failed(run), retried(run)], [30, 1, 2])[0]

    fleet = Fleet(make, end)
    policies = list(OnFailure)
    trees = [a_tree(store, policies[n % 3]) for n in range(12)]
    with fleet.at_work():
        people = make()
        for n, id in enumerate(trees):
            trees.append(a_tree(store, policies[n % 3]))
            if n % 4 == 0:
                people.cancel(Filter(ids=(id,)), reason="people")
            people.retry(Filter(state=State.FAILED))
            people.repair()
            people.prune(before=0.0)
            if len(trees) >= 24:
                break
    assert deadlocks() == before
    assert fleet.settled > 400
    left = {job.state for job in everything(store)}
    assert left <= {State.COMPLETED, State.FAILED, State.CANCELLED}


def test_a_job_is_given_to_one_of_many_who_ask_at_once(make: Callable[[], PostgresStore]) -> None:
    store = make()
    store.migrate()
    store.add([a_job(queue=queue) for queue in ("a", "b", "c") for _ in range(100)])
    taken: list[str] = []

    def work(n: int) -> Callable[[], None]:
        mine = make()
        mine.enlist(a_session(f"w{n}"))

        def loop() -> None:
            while runs := fetch(mine, 7, worker=f"w{n}.1"):
                taken.extend(run.id for run in runs)

        return loop

    together(*[work(n) for n in range(6)])
    assert len(taken) == 300 == len(set(taken))
    assert store.counts() == {(queue, "running"): 100 for queue in ("a", "b", "c")}


def test_who_finds_the_best_of_all_lines_held_by_another_gets_what_is_behind(
    make: Callable[[], PostgresStore], postgres: Postgres, url: str
) -> None:
    """An empty answer would tell a worker that there is nothing to do."""
    store = make()
    store.migrate()
    store.enlist(a_session("w"))
    best = add(store, queue="a", priority=-1)
    behind = add(store, queue="b")
    with psycopg.connect(postgres.url) as other:
        table = url.partition("?schema=")[2]
        other.execute(f"SELECT 1 FROM {table}.piecework_job WHERE id = %s FOR UPDATE".encode(), (best,))
        assert [run.id for run in fetch(store, 1)] == [behind]
        assert fetch(store, 1) == []
    assert [run.id for run in fetch(store, 1)] == [best]


def test_the_last_pieces_end_at_once_and_release_once(make: Callable[[], PostgresStore]) -> None:
    store = make()
    store.migrate()
    for session in ("w", "s"):
        store.enlist(a_session(session))
    others = [make() for _ in range(5)]
    for _ in range(10):
        id = add_continuation(store)
        store.add([a_job(batch=id, ordinal=n) for n in range(5)])
        store.seal(id)
        runs = fetch(store, 5)
        together(*[lambda s=s, r=r: s.settle([completed(r)]) for s, r in zip(others, runs, strict=True)])
        found = batch(store, id)
        assert (found.state, found.open, found.completed) == (BatchState.DONE, 0, 5)
        assert fetch_one(store, queue=SPLITS).run == 1


def test_one_key_is_taken_once_by_many_at_once(make: Callable[[], PostgresStore]) -> None:
    store = make()
    store.migrate()
    others = [make() for _ in range(6)]
    for key in "abcdef":
        answers = together(*[lambda s=s: s.add([a_job(key=key)]) for s in others])  # noqa: B023 (called at once)
        assert len({id for (id,) in answers}) == 1
    assert len(everything(store)) == 6


def test_keys_in_crossing_order_are_stored_all_the_same(make: Callable[[], PostgresStore]) -> None:
    """Two that wait for each other's keys: the server breaks the knot, and the one that lost begins anew."""
    store = make()
    store.migrate()
    others = [make(), make()]
    for n in range(5):
        keys = [f"{n}-{m}" for m in range(40)]
        orders = [keys, keys[::-1]]
        together(*[lambda s=s, o=o: s.add([a_job(key=key) for key in o]) for s, o in zip(others, orders, strict=True)])
    assert len(everything(store)) == 200


def test_a_callers_long_transaction_holds_up_nobody(
    make: Callable[[], PostgresStore], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 2)
    store = make()
    store.migrate()
    store.enlist(a_session("w"))
    tree = add_continuation(store)
    store.add([a_job(batch=tree, ordinal=0)])
    with psycopg.connect(postgres.url) as theirs:
        (mine,) = store.add([a_job(key="k")], within=theirs)
        add(store)
        runs = fetch(store, 10)
        assert len(runs) == 2
        assert store.settle([completed(run) for run in runs]) == [Answer.OK] * 2
        store.seal(tree)
        assert store.cancel(Filter(ids=(tree,)), reason="no") == 1
        assert store.retry(Filter(ids=(tree,))) == 1
        assert store.get([mine]) == []
    assert state(store, mine) is State.AVAILABLE


def test_a_session_that_is_buried_while_it_fetches_leaves_nothing_behind(make: Callable[[], PostgresStore]) -> None:
    store = make()
    store.migrate()
    watcher, worker = make(), make()
    for n in range(15):
        worker.enlist(a_session(f"v{n}"))
        ids = store.add([a_job() for _ in range(20)])

        def ask(name: str = f"v{n}.1") -> None:
            try:
                worker.fetch(a_claim(name, 20))
            except Exception as error:
                assert type(error).__name__ == "LeaseLost"

        together(ask, lambda n=n: watcher.bury(f"v{n}", 0))
        assert set(states(store, ids)) == {State.AVAILABLE}
        store.cancel(Filter(), reason="next")
