"""The contract of `within=` on every kind of connection that a program has, and what goes wrong on one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from support import narrow, until
from tests.callers import ALL, AWAITED, Caller, opened
from tests.servers import UNSYNCED, Postgres

from piecework.errors import StoreError, StoreUnavailable, UsageError, WithinNotSupported
from piecework.job import NewJob
from piecework.store import Store, open_store
from piecework.testing.conformance import WithinConformance
from piecework.testing.conformance.kit import a_job, add, everything
from piecework.testing.conformance.operations import an_operation

SYNCHRONOUS = [kind for kind in ALL if kind not in AWAITED]


async def aside(function: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function)


def add_within(store: Store, caller: Caller, jobs: Sequence[NewJob]) -> list[str]:
    """`add`, or `aadd` where the connection is awaited."""
    if caller.runner is None:
        return store.add(jobs, within=caller.given)
    return caller.do(store.aadd(jobs, within=caller.given, aside=aside))  # type: ignore[no-any-return]


@pytest.fixture
def shelf(whose: str) -> str:
    return whose.partition("-")[0]


@pytest.fixture
def kind(whose: str) -> str:
    return whose.partition("-")[2]


class _Begun:
    @pytest.fixture
    def transaction(self, shelf: str, kind: str, store_url: str) -> Callable[[], AbstractContextManager[Any]]:
        @contextmanager
        def begun() -> Iterator[Any]:
            with opened(shelf, kind, store_url) as caller:
                caller.begin()
                try:
                    yield self.handed_in(caller)
                except BaseException:
                    caller.rollback()
                    raise
                caller.commit()

        return begun

    def handed_in(self, caller: Caller) -> Any:
        return caller.given


@pytest.mark.parametrize("whose", SYNCHRONOUS)
class TestWithin(_Begun, WithinConformance):
    """Synchronous connections."""


class Awaited:
    """A store of which `add` is `aadd`, for connections that are awaited."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def add(self, jobs: Sequence[NewJob], *, within: Any = None, batch: Any = None) -> list[str]:
        if isinstance(within, Caller):
            return add_within(self._store, within, jobs)
        if within is not None:
            return asyncio.run(self._store.aadd(jobs, within=within, aside=aside))
        return self._store.add(jobs, batch=batch)


@pytest.mark.parametrize("whose", AWAITED)
class TestWithinAwaited(_Begun, WithinConformance):
    """Asynchronous connections."""

    @pytest.fixture
    def store(self, store: Store) -> Awaited:
        return Awaited(store)

    def handed_in(self, caller: Caller) -> Any:
        return caller

    test_batches_die_with_the_callers_transaction = None  # type: ignore[assignment] # batches are opened by splits


# ── trouble on PostgreSQL ────────────────────────────────────────────────────────────────────────

ON_POSTGRES = [kind for kind in ALL if kind.startswith("postgres")]


@pytest.fixture
def caller(shelf: str, kind: str, store: Store, store_url: str) -> Iterator[Caller]:
    with opened(shelf, kind, store_url) as found:
        yield found


@pytest.mark.parametrize("whose", ON_POSTGRES)
def test_a_transaction_that_has_failed_before_is_told_of(store: Store, caller: Caller) -> None:
    caller.begin()
    with pytest.raises(Exception, match="division by zero"):
        caller.execute("SELECT 1/0")
    with pytest.raises(StoreError, match="an earlier statement of your transaction has failed"):
        add_within(store, caller, [a_job()])
    caller.rollback()
    assert everything(store) == []


@pytest.mark.parametrize("whose", ON_POSTGRES)
def test_nothing_is_sent_again_and_the_transaction_goes_on(store: Store, caller: Caller) -> None:
    """A unique key that another transaction took after this one began: under REPEATABLE READ only a new one can tell."""
    caller.begin()
    caller.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    caller.execute("SELECT count(*) FROM pg_class")
    first = add(store, key="k")
    with pytest.raises(StoreUnavailable, match="nothing was sent again, for it is part of your transaction"):
        add_within(store, caller, [a_job(key="k")])
    kept = a_job()
    assert add_within(store, caller, [kept]) == [kept.id]
    caller.commit()
    assert {job.id for job in everything(store)} == {first, kept.id}


@pytest.mark.parametrize("whose", ON_POSTGRES)
def test_a_lock_that_is_not_had_in_time_leaves_the_transaction_usable(
    store: Store, caller: Caller, store_url: str
) -> None:
    caller.begin()
    caller.execute("SET LOCAL lock_timeout = '50ms'")
    with psycopg.connect(store_url.partition("?")[0]) as other:
        store.add([a_job(key="k")], within=other)
        with pytest.raises(StoreUnavailable, match="still open has taken the unique key.*roll that back"):
            add_within(store, caller, [a_job(key="k")])
        kept = a_job()
        add_within(store, caller, [kept])
        caller.commit()
        other.rollback()
    assert [job.id for job in everything(store)] == [kept.id]


@pytest.mark.parametrize("whose", ["postgres-psycopg", "postgres-asyncpg-session", "postgres-django"])
def test_a_restart_of_the_server_is_no_other_database(whose: str) -> None:
    server = Postgres(**UNSYNCED).start()
    try:
        own = open_store(f"{server.url}?schema=mine")
        own.migrate()
        for _ in range(2):
            with opened("postgres", whose.partition("-")[2], f"{server.url}?schema=mine") as caller:
                caller.begin()
                add_within(own, caller, [a_job()])
                caller.commit()
            server.end()
            server.launch()
        assert len(everything(own)) == 2
        own.close()
    finally:
        server.stop()


@pytest.mark.parametrize("whose", ON_POSTGRES)
def test_a_transaction_that_may_only_read_is_told_so(store: Store, caller: Caller) -> None:
    caller.begin()
    caller.execute("SET TRANSACTION READ ONLY")
    with pytest.raises(WithinNotSupported, match="yours is read-only.*READ WRITE"):
        add_within(store, caller, [a_job()])
    caller.execute("SELECT 1")  # and it goes on
    caller.rollback()


@pytest.mark.parametrize("whose", ["postgres-psycopg", "postgres-asyncpg-session"])
def test_a_delay_is_counted_from_the_call(store: Store, caller: Caller, store_url: str) -> None:
    """And not from the beginning of the caller's transaction; by the server's clock, as a store without one goes."""
    own = open_store(store_url)
    caller.begin()
    caller.execute("SELECT now(), pg_sleep(0.05)")
    before = own.now()
    add_within(own, caller, [a_job(delay=10.0)])
    caller.commit()
    (job,) = everything(own)
    assert before + 10 <= job.run_at <= own.now() + 10
    own.close()


@pytest.mark.parametrize("whose", [kind for kind in ON_POSTGRES if "sqlalchemy" in kind or "asyncpg-c" in kind])
@pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 10}])
def test_how_sqlalchemy_is_told_to_fetch_is_no_hindrance(store: Store, caller: Caller, options: dict[str, Any]) -> None:
    given = caller.given
    if "session" in type(given).__name__.lower():
        caller.do(given.connection(execution_options=options))
    else:
        caller.do(given.execution_options(**options))
    add_within(store, caller, [a_job(key="k"), a_job()])
    caller.commit()
    assert len(everything(store)) == 2


@pytest.mark.parametrize("whose", ["postgres-psycopg-async"])
def test_who_is_cancelled_while_waiting_leaves_a_transaction_that_goes_on(
    store: Store, caller: Caller, store_url: str
) -> None:
    kept = a_job()

    async def give_up() -> None:
        task = asyncio.ensure_future(store.aadd([a_job(key="k")], within=caller.given, aside=aside))
        while not await aside(lambda: waiting(store_url)):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.aadd([kept], within=caller.given, aside=aside)

    with psycopg.connect(store_url.partition("?")[0]) as other:
        store.add([a_job(key="k")], within=other)
        caller.do(give_up())
        caller.commit()
        other.rollback()
    assert [job.id for job in everything(store)] == [kept.id]


@pytest.mark.parametrize(
    "whose", ["postgres-psycopg-async", "postgres-sqlalchemy-async-connection", "postgres-asyncpg-connection"]
)
def test_calls_at_once_on_one_connection_do_not_undo_each_other(store: Store, caller: Caller) -> None:
    def call(job: NewJob) -> Any:
        return store.aadd([job], within=caller.given, aside=aside)

    async def together() -> list[Any]:
        bad = [a_job(f"bad {n}", batch="no such batch", ordinal=0) for n in range(5)]
        good = [a_job(f"good {n}") for n in range(5)]
        calls = [call(job) for pair in zip(good, bad, strict=True) for job in pair]
        return await asyncio.gather(*calls, return_exceptions=True)

    caller.execute("SELECT 1")
    answers = caller.do(together())
    assert [type(answer) for answer in answers] == [list, UsageError] * 5
    caller.commit()
    assert sorted(job.id for job in everything(store)) == [f"good {n}" for n in range(5)]


@pytest.mark.parametrize("whose", ["postgres-sqlalchemy-async-connection", "postgres-asyncpg-connection"])
def test_who_is_cancelled_while_waiting_is_told_so_whatever_the_connection_says(
    store: Store, caller: Caller, kind: str, store_url: str
) -> None:
    """SQLAlchemy takes no more on a connection of a call that was cancelled."""
    with opened("postgres", "psycopg", store_url) as other:
        add_within(store, other, [a_job("theirs", key="k")])

        async def cancelled() -> None:
            task = asyncio.create_task(store.aadd([a_job("mine", key="k")], within=caller.given, aside=aside))
            while not await aside(lambda: waiting(store_url)):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        caller.do(cancelled())
        other.rollback()


def waiting(url: str) -> bool:
    """Whether somebody waits for a lock."""
    with psycopg.connect(url.partition("?")[0]) as server:
        return server.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is not None


@pytest.mark.parametrize("whose", ["postgres-psycopg"])
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_pipeline_and_a_row_factory_of_the_callers_are_no_hindrance(
    store: Store, caller: Caller, pipelined: bool
) -> None:
    caller.given.row_factory = psycopg.rows.dict_row
    first = add(store, key="k")
    operation = an_operation()
    if not pipelined:
        assert add_within(store, caller, [a_job(key="k"), operation])[0] == first
        caller.commit()
    else:
        with caller.given.pipeline():
            caller.execute("SELECT 1")
            assert add_within(store, caller, [a_job(key="k"), operation])[0] == first
            caller.commit()
    assert {job.id for job in everything(store)} == {first, operation.id}


@contextmanager
def ended_if_stuck(connection: Any, url: str) -> Iterator[None]:
    """Ends a connection that waits for ever, so that the call on it fails."""

    def end() -> None:
        with psycopg.connect(url.partition("?")[0], autocommit=True) as server:
            server.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])

    timer = threading.Timer(60.0, end)
    timer.start()
    yield
    timer.cancel()
    timer.join()


@pytest.mark.parametrize("whose", ["postgres-psycopg", "postgres-psycopg-async"])
def test_a_pipeline_takes_a_job_that_the_network_does_not_take_at_once(
    store: Store, caller: Caller, store_url: str
) -> None:
    job = a_job(args='{"a":["' + "x" * 1_000_000 + '"]}')
    narrow(caller.given)

    async def added() -> list[str]:
        async with caller.given.pipeline():
            return await store.aadd([job], within=caller.given, aside=aside)

    with ended_if_stuck(caller.given, store_url):
        if caller.runner is not None:
            assert caller.do(added()) == [job.id]
        else:
            with caller.given.pipeline():
                assert add_within(store, caller, [job]) == [job.id]
    caller.commit()
    assert [found.id for found in everything(store)] == [job.id]


def sleeps(url: str) -> None:
    """Somebody waits for work, and wants to be told."""
    table = f"{url.partition('?schema=')[2]}.piecework_sleeper"
    with psycopg.connect(url.partition("?")[0]) as server:
        server.execute(f"INSERT INTO {table} VALUES ('somebody')".encode())


@pytest.mark.parametrize("whose", ["postgres-psycopg", "postgres-psycopg-async"])
def test_a_transaction_in_two_phases_is_prepared_while_workers_sleep(
    store: Store, caller: Caller, store_url: str
) -> None:
    job = a_job()
    sleeps(store_url)
    caller.do(caller.given.tpc_begin(f"of {job.id}"))
    add_within(store, caller, [job])
    caller.do(caller.given.tpc_prepare())
    assert everything(store) == []
    caller.do(caller.given.tpc_commit())
    assert [found.id for found in everything(store)] == [job.id]


@pytest.mark.parametrize(
    "whose", ["postgres-sqlalchemy-session", "postgres-sqlalchemy-async-session", "postgres-asyncpg-session"]
)
def test_a_session_in_two_phases_is_committed_while_workers_sleep(store: Store, caller: Caller, store_url: str) -> None:
    job = a_job()
    sleeps(store_url)
    getattr(caller.given, "sync_session", caller.given).twophase = True
    add_within(store, caller, [job])
    assert everything(store) == []
    caller.commit()
    assert [found.id for found in everything(store)] == [job.id]


@pytest.mark.parametrize("whose", ["postgres-sqlalchemy-session"])
def test_a_session_that_does_not_know_its_database_is_refused(store: Store, caller: Caller) -> None:
    class Base(DeclarativeBase): ...

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    with Session(binds={User: caller.given.get_bind()}) as session:
        with pytest.raises(WithinNotSupported, match="bind_arguments"):
            store.add([a_job()], within=session)
        job = a_job()
        store.add([job], within=session.connection(bind_arguments={"mapper": User}))
        session.commit()
    assert [found.id for found in everything(store)] == [job.id]


@pytest.mark.parametrize(
    ("whose", "message"),
    [
        (
            "postgres-psycopg",
            r"on postgresql\+psycopg:// or postgresql\+asyncpg://; this one is on sqlite\+pysqlite://",
        ),
        ("sqlite-sqlite3", "this engine of SQLAlchemy is on postgresql"),
    ],
)
def test_an_engine_of_another_kind_is_refused(whose: str, message: str, store: Store, postgres: Postgres) -> None:
    url = "sqlite://" if whose.startswith("postgres") else postgres.url.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url)
    with engine.connect() as connection, pytest.raises(WithinNotSupported, match=message):
        store.add([a_job()], within=connection)
    engine.dispose()


# ── trouble on SQLite ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("whose", ["sqlite-sqlite3"])
def test_a_connection_of_the_other_shelf_is_refused(store: Store, caller: Caller, postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as server, pytest.raises(WithinNotSupported, match=r"psycopg\.Connection"):
        store.add([a_job()], within=server)
    other = open_store(f"{postgres.url}?schema=elsewhere")
    with pytest.raises(WithinNotSupported, match=r"sqlite3\.Connection"):
        other.add([a_job()], within=caller.given)
    other.close()


@pytest.mark.parametrize("whose", [kind for kind in ALL if kind.startswith("sqlite")])
def test_a_file_that_others_write_to_is_told_of_and_nothing_is_sent_again(
    store: Store, caller: Caller, tmp_path: Path
) -> None:
    caller.begin()
    caller.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="nothing was sent again"):
        add_within(store, caller, [a_job()])
    other.execute("ROLLBACK")
    other.close()
    caller.rollback()
    assert everything(store) == []


@pytest.mark.parametrize("whose", ["sqlite-sqlite3"])
def test_a_thread_of_its_own_is_the_drivers_business(store: Store, caller: Caller) -> None:
    caller.begin()
    said: list[BaseException] = []

    def elsewhere() -> None:
        try:
            store.add([a_job()], within=caller.given)
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    until(lambda: bool(said), "it was refused")
    thread.join()
    assert "thread" in str(said[0])
    caller.rollback()


@pytest.mark.parametrize("whose", ON_POSTGRES)
def test_a_session_that_is_reset_inside_the_transaction_is_no_hindrance(store: Store, caller: Caller) -> None:
    caller.begin()
    ids = add_within(store, caller, [a_job(key="k")])
    caller.execute("RESET ALL")
    ids += add_within(store, caller, [a_job()])
    caller.commit()
    assert [job.id for job in everything(store)] == ids


@pytest.mark.parametrize("whose", ["postgres-psycopg"])
def test_a_connection_that_was_discarded_by_its_pool_is_no_hindrance(store: Store, store_url: str) -> None:
    """Often enough for the driver to prepare what piecework says there; then all of it is forgotten."""
    with psycopg.connect(store_url.partition("?")[0]) as con:
        for _ in range(8):
            store.add([a_job()], within=con)
            con.commit()
        con.autocommit = True
        con.execute("DISCARD ALL")
        con.autocommit = False
        store.add([a_job()], within=con)
        con.commit()
    assert len(everything(store)) == 9
