"""A transaction of a caller's that stays open and has taken a unique key: who else wants it waits alone, everybody else works."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from tests.servers import Postgres

from piecework import Piecework, Step, aio, step
from piecework.errors import KeyHeld, StoreUnavailable
from piecework.job import Answer, Filter, State
from piecework.labels import key_for
from piecework.outcome import Settlement
from piecework.store.postgres import database, held
from piecework.store.postgres.store import PostgresStore
from piecework.testing.conformance.kit import (
    a_job,
    a_session,
    add,
    add_continuation,
    assert_sound,
    completed,
    ended,
    failed,
    fetch,
    offer,
    pieces_of,
    running,
    splitting,
)
from piecework.testing.conformance.operations import an_operation, start
from piecework.testing.drain import drain

PATIENCE = 20.0  # seconds: who waits for a key waits on while all that follows is done
_names = itertools.count(1)


@pytest.fixture
def url(postgres: Postgres) -> str:
    return f"{postgres.url}?schema=held_{next(_names)}"


@pytest.fixture
def store(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStore]:
    monkeypatch.setattr(database, "LOCK_SECONDS", PATIENCE)
    store = PostgresStore(url)
    store.migrate()
    for session in ("w", "splitter"):
        store.enlist(a_session(session))
    yield store
    assert_sound(store)
    store.close()


@pytest.fixture
def another(store: PostgresStore, url: str) -> Iterator[PostgresStore]:
    """The same store as another process has it."""
    another = PostgresStore(url)
    yield another
    another.close()


@pytest.fixture
def caller(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url) as caller:
        yield caller
        caller.rollback()


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released each time that a call finds held what it wants."""
    met, lasts = threading.Semaphore(0), held.Patience.lasts

    def told(self: held.Patience, error: psycopg.Error) -> bool:
        met.release()
        return lasts(self, error)

    monkeypatch.setattr(held.Patience, "lasts", told)
    return met


class Waiting:
    """A call on a thread of its own, and what it came to."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:
            self._error = error

    def waits(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Any:
        self._thread.join(40)
        assert not self.waits()
        if self._error is not None:
            raise self._error
        return self._answer


# ── who wants the key ────────────────────────────────────────────────────────────────────────────

Want = Callable[[], Any]  # a call that wants it
Wanted = tuple[Callable[[], Any], Want]  # how the caller takes the key; who wants it


def a_plain_job(store: PostgresStore, caller: Any) -> Wanted:
    return lambda: store.add([a_job(key="k")], within=caller), lambda: add(store, key="k")


def an_operation_begun(store: PostgresStore, caller: Any) -> Wanted:
    return lambda: store.add([an_operation(key="k")], within=caller), lambda: start(store, key="k")


def a_piece(store: PostgresStore, caller: Any) -> Wanted:
    run = splitting(store)
    return (
        lambda: store.add([a_job(key="k")], within=caller),
        lambda: offer(store, run, pieces_of(run, 1, queue="pieces", key="k")),
    )


def a_retry(store: PostgresStore, caller: Any) -> Wanted:
    run = running(store, key="k")
    store.settle([failed(run)])
    return lambda: store.add([a_job(key="k")], within=caller), lambda: store.retry(Filter(ids=(run.id,)))


def a_deletion(store: PostgresStore, caller: Any) -> Wanted:
    """Of an operation that has ended, and whose key the caller's takes over."""
    run = running(store, operation=an_operation().operation, key="k")
    store.settle([completed(run)])
    again = an_operation(key="k", again=True)
    return lambda: store.add([again], within=caller), lambda: store.delete(Filter(ids=(run.id,)))


WANTED = [a_plain_job, an_operation_begun, a_piece, a_retry, a_deletion]
wanted = pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.__name__)


def everything_else(store: PostgresStore) -> None:
    """Each verb that takes the gate in another way, or none."""
    tree = add_continuation(store)
    store.add([a_job(batch=tree, ordinal=n, queue="mine") for n in range(3)])
    store.add([a_job(queue="mine", key=f"{tree}-{n}") for n in range(3)])
    add(store, queue="mine")
    runs = fetch(store, 20, queue="mine")
    assert len(runs) == 7
    ends: list[Settlement] = [ended(run, State.AVAILABLE, delay=0.0, reason="later") for run in runs[:1]]
    assert set(store.settle([*ends, *map(completed, runs[1:])])) == {Answer.OK}
    store.seal(tree)
    assert store.cancel(Filter(ids=(tree,)), reason="no") == 1
    assert store.retry(Filter(ids=(tree,))) == 1
    fetch(store, 20, queue="mine")
    store.prune(before=store.now() + 100)
    store.repair()
    assert store.renew("w")


@wanted
def test_who_wants_a_key_that_somebody_has_taken_waits_alone(
    store: PostgresStore, another: PostgresStore, caller: Any, met: threading.Semaphore, wanted: Callable[..., Wanted]
) -> None:
    """More of them than there are connections, in the same process and elsewhere."""
    take, want = wanted(store, caller)
    take()
    n = 1 if wanted is a_piece else 4
    waiting = [Waiting(want) for _ in range(n)]
    for _ in range(2 * n):
        assert met.acquire(timeout=10)
    for process in (store, another):
        everything_else(process)
    assert all(call.waits() for call in waiting)
    caller.rollback()
    for call in waiting:
        call.answer()


@pytest.mark.parametrize("verb", ["alater", "alater_many"])
def test_awaited_calls_that_wait_for_a_key_keep_no_others_from_a_thread(
    store: PostgresStore, url: str, caller: Any, met: threading.Semaphore, verb: str
) -> None:
    app = Piecework(url)

    @app.task
    def report(n: int) -> None: ...

    keyed = report.using(identity="k", one_per_identity=True)
    call = (lambda: keyed.alater(1)) if verb == "alater" else lambda: keyed.alater_many([(1,)])

    async def work() -> None:
        waiting = [asyncio.ensure_future(call()) for _ in range(aio.THREADS + 2)]
        for _ in range(aio.THREADS + 2):
            assert await asyncio.to_thread(met.acquire, timeout=10)
        job = await report.alater(2)
        assert (await app.jobs.aget(job.id)).id == job.id
        assert not any(call.done() for call in waiting)
        caller.rollback()
        await asyncio.gather(*waiting)

    store.add([a_job(key=key_for(report.name, "k"))], within=caller)
    asyncio.run(work())
    app.close()


def test_the_key_is_one_however_it_was_waited_for(store: PostgresStore, caller: Any, met: threading.Semaphore) -> None:
    """A commit answers who waited with the caller's job."""
    (mine,) = store.add([a_job(key="k")], within=caller)
    waiting = [Waiting(lambda: add(store, key="k")) for _ in range(3)]
    assert met.acquire(timeout=10)
    caller.commit()
    assert [call.answer() for call in waiting] == [mine] * 3


def test_a_retry_that_waited_for_a_key_which_is_taken_brings_nothing_back(
    store: PostgresStore, caller: Any, met: threading.Semaphore
) -> None:
    take, want = a_retry(store, caller)
    take()
    waiting = Waiting(want)
    assert met.acquire(timeout=10)
    caller.commit()
    assert waiting.answer() == 0


# What a server with lc_messages=de_DE.UTF-8 says instead.
GERMAN = {
    "while inserting index tuple": "beim Einfügen von Indextupel",
    "while locking tuple": "beim Sperren von Tupel",
    "while updating tuple": "beim Aktualisieren von Tupel",
    "in relation": "in Relation",
    '"': "»",
}


@pytest.mark.parametrize("words", [{}, GERMAN], ids=["english", "german"])
@wanted
def test_the_wait_for_a_key_has_an_end(
    postgres: Postgres,
    url: str,
    caller: Any,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Callable[..., Wanted],
    words: dict[str, str],
) -> None:
    context = held._context

    def translated(error: BaseException) -> str | None:
        said = context(error)
        for english, other in words.items():
            said = said and said.replace(english, other)
        return said

    monkeypatch.setattr(held, "_context", translated)
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    store = PostgresStore(url)
    store.migrate()
    for session in ("w", "splitter"):
        store.enlist(a_session(session))
    take, want = wanted(store, caller)
    take()
    kind, said = (
        (StoreUnavailable, "locked") if wanted is a_deletion else (KeyHeld, "still open has taken the unique key")
    )
    with pytest.raises(kind, match=said):
        want()
    caller.rollback()
    want()
    assert_sound(store)
    store.close()


def test_a_table_that_is_locked_as_a_whole_is_no_key(
    postgres: Postgres, url: str, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    store = PostgresStore(url)
    store.migrate()
    caller.execute(f"LOCK TABLE {store.db.place.schema}.piecework_job IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(StoreUnavailable, match="is locked by others") as told:
        add(store, key="k")
    assert told.type is StoreUnavailable
    store.close()


@pytest.mark.parametrize("by", ["psycopg", "sqlalchemy"])
def test_who_waits_on_a_connection_of_its_own_is_told_the_same(
    store: PostgresStore, postgres: Postgres, caller: Any, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = held._context
    monkeypatch.setattr(
        held,
        "_context",
        lambda error: (said := context(error)) and said.replace("while inserting index tuple", "beim …"),
    )
    store.add([a_job(key="k")], within=caller)
    engine = create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() if by == "sqlalchemy" else psycopg.connect(postgres.url) as mine:
        (mine.exec_driver_sql if by == "sqlalchemy" else mine.execute)("SET LOCAL lock_timeout = '20ms'")
        with pytest.raises(KeyHeld, match="roll that back"):
            store.add([a_job(key="k")], within=mine)
        mine.rollback()
    engine.dispose()


def test_a_key_that_is_held_keeps_no_other_job_from_a_retry_of_all(
    postgres: Postgres, url: str, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.5)
    app = Piecework(url)
    app.migrate()
    app.store.enlist(a_session("w"))
    runs = [running(app.store, key=key) for key in "abcd"]
    app.store.settle([failed(run) for run in runs])
    app.store.add([a_job(key="a"), a_job(key="c")], within=caller)
    done = app.jobs.where(state="failed").retry()
    assert (done, done.left) == (2, 2)
    assert [(id, "still open has taken the unique key" in why) for id, why in done.refused] == [
        (runs[0].id, True),
        (runs[2].id, True),
    ]
    caller.rollback()
    assert app.jobs.where(state="failed").retry() == 2
    app.close()


def test_a_key_that_is_held_keeps_no_other_operation_from_what_is_done_to_all(
    url: str, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.5)
    app = Piecework(url)
    app.migrate()

    def fail(step: Step) -> None:
        raise ValueError(step.operation_id)

    fulfil = app.operation("fulfil", main=[step(fail, attempts=1)])
    ops = [fulfil.using(key=key).later() for key in "abcd"]
    drain(app)
    for key in "ac":
        fulfil.using(key=key, again=True, within=caller).later()
    done = fulfil.where().only(state="failed").skip()
    assert (done, done.left) == (2, 2)
    assert [(id, "still open has taken the unique key" in why) for id, why in done.refused] == [
        (ops[0].id, True),
        (ops[2].id, True),
    ]
    assert [len(op.amendments()) for op in ops] == [0, 1, 0, 1]
    caller.rollback()
    assert fulfil.where().only(state="failed").skip() == 2
    app.close()


# ── what else a transaction that stays open may hold ─────────────────────────────────────────────


def test_what_a_caller_begins_anew_is_left_by_who_prunes(store: PostgresStore, caller: Any) -> None:
    """The others are pruned; a later prune finds it."""
    first = running(store, operation=an_operation().operation, key="k")
    second = running(store, operation=an_operation().operation, key="j")
    store.settle([completed(first), completed(second)])
    store.add([an_operation(key="k", again=True)], within=caller)
    assert store.prune(before=store.now() + 100) == 1
    assert [job.id for job in store.get([first.id, second.id])] == [first.id]
    caller.commit()
    assert store.prune(before=store.now() + 100) == 1


def test_a_job_that_says_something_in_its_own_transaction_is_cancelled_at_once(
    store: PostgresStore, another: PostgresStore
) -> None:
    """What it said is written at its end; until then nobody waits for its row."""
    run = running(store)
    with store.transaction() as effects:
        effects.set_status(run.fence, '"half"')
        assert another.cancel(Filter(ids=(run.id,)), reason="no") == 1
        assert another.report("w.1", {}) == [run.id]
        effects.settle(completed(run))
    (record,) = store.get([run.id])
    assert (record.state, record.status) == (State.COMPLETED, '"half"')


def test_a_run_has_finished_when_it_was_settled(store: PostgresStore, another: PostgresStore) -> None:
    """And not when its transaction began, though now() says that there all the while."""
    run = running(store)
    with store.transaction() as effects:
        effects.connection.execute("SELECT 1")
        began = another.now()
        effects.settle(completed(run))
    (record,) = store.get([run.id])
    assert record.finished_at is not None
    assert record.finished_at > began


def test_a_change_of_the_tables_may_wait_behind_the_gate(
    store: PostgresStore, caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in one piece: in many short ones a busy table would never be free."""
    limits: list[Any] = []
    store.db.change(lambda con: limits.append(con.execute("SHOW lock_timeout").fetchone()))
    store.db.write(lambda con, _: limits.append(con.execute("SHOW lock_timeout").fetchone()), database.Gate.ALONE)
    assert limits == [("20s",), ("20ms",)]
