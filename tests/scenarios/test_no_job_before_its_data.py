"""A job and the data that it is about are committed together or not at all, on every kind of connection a program has."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.callers import ALL, AWAITED, Caller, begin_and_die, make_table, numbers_in, opened, table_of
from tests.servers import Postgres

from piecework import Piece, Pieces, Piecework, Step, Task
from piecework.errors import Duplicate, JobNotFound, UsageError, WithinNotSupported
from piecework.job import NewJob, State
from piecework.testing.drain import drain

Double = Task[Any, Any, Any]


@pytest.fixture(params=ALL)
def caller(request: pytest.FixtureRequest, app: Piecework, store_url: str) -> Iterator[Caller]:
    """A connection to the store's database, with a table of the caller's own beside."""
    app.store.migrate()
    make_table(store_url)
    shelf, _, kind = request.param.partition("-")
    with opened(shelf, kind, store_url) as found:
        yield found


@pytest.fixture
def shelf(request: pytest.FixtureRequest) -> str:
    """The shelf of the connection that a test takes."""
    return str(request.getfixturevalue("kind_of_caller")).partition("-")[0]


@pytest.fixture
def kind_of_caller(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["caller"])


@pytest.fixture
def insert(caller: Caller, store_url: str) -> Any:
    """Puts a number into the caller's table, in the caller's transaction."""
    return lambda n: caller.execute(f"INSERT INTO {table_of(store_url)} VALUES ({n})")


def nothing(app: Piecework) -> bool:
    return not any(app.jobs.counts().values())


def test_a_commit_makes_both_visible(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    caller.begin()
    insert(1)
    job = caller.later(double, 21)
    assert len(job.id) == 36
    assert nothing(app)
    with pytest.raises(JobNotFound, match=job.id):
        app.jobs.get(job.id)
    caller.commit()
    assert app.jobs.get(job.id).state is State.AVAILABLE
    assert app.jobs.counts() == {("default", "available"): 1}
    drain(app)
    assert job.result(timeout=0) == 42
    assert numbers_in(store_url) == [1]


def test_a_rollback_leaves_neither(app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str) -> None:
    caller.begin()
    insert(1)
    job = caller.later(double, 1, key="k")
    caller.later_many(double, [(n,) for n in range(50)])
    caller.rollback()
    assert drain(app) == 0
    assert nothing(app)
    assert numbers_in(store_url) == []
    assert double.using(key="k").later(1).id != job.id  # nor is the unique key taken


def test_a_job_is_never_committed_before_its_data(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    """Not by the first call on a connection, nor by the ones after, whichever comes first in its transaction."""
    for n in range(3):
        caller.begin()
        caller.later(double, n)
        insert(n)
        caller.rollback()
        assert nothing(app)
    assert numbers_in(store_url) == []


def test_a_rolled_back_savepoint_takes_its_own_jobs_only(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    caller.begin()
    insert(1)
    kept = caller.later(double, 1)
    savepoint = caller.save()
    insert(2)
    lost = caller.later(double, 2)
    caller.undo(savepoint)
    insert(3)
    also_kept = caller.later(double, 3)
    caller.commit()
    drain(app)
    assert (kept.result(timeout=0), also_kept.result(timeout=0)) == (2, 6)
    with pytest.raises(JobNotFound):
        lost.record()
    assert numbers_in(store_url) == [1, 3]


def test_many_jobs_and_splits_and_operations_too(app: Piecework, double: Double, caller: Caller, insert: Any) -> None:

    @app.split
    def parts(n: int) -> Iterator[Piece[int]]:
        yield double.piece(n)
        yield double.piece(n + 1)

    @parts.compose
    def add_up(pieces: Pieces[int], n: int) -> int:
        return sum(pieces.results())

    def charge(step: Step[Any]) -> None:
        step["charged"] = step["order"] * 2

    fulfil: Any = app.operation("fulfil", main=[charge])
    caller.begin()
    insert(1)
    jobs = caller.later_many(double, [(n,) for n in range(3)])
    split = caller.later(parts, 5)
    operation: Any = caller.do(_begun(fulfil.using(within=caller.given, key="order:7"), caller))
    again: Any = caller.do(_begun(fulfil.using(within=caller.given, key="order:7"), caller))
    assert again.id == operation.id
    caller.commit()
    drain(app)
    assert [job.result(timeout=0) for job in jobs] == [0, 2, 4]
    assert split.result(timeout=0) == 22
    assert operation.result(timeout=0) == {"order": 7, "charged": 14}
    assert fulfil.where(order=7).count() == 1


def _begun(fulfil: Any, caller: Caller) -> Any:
    return fulfil.later(order=7) if caller.runner is None else fulfil.alater(order=7)


@pytest.mark.parametrize("caller", [kind for kind in ALL if kind.startswith("postgres")], indirect=True)
def test_another_can_begin_an_operation_of_the_same_plan_before_the_commit(app: Piecework, caller: Caller) -> None:
    """The plan, which all share, is no secret of a transaction that may last."""

    def charge(step: Step[Any]) -> None: ...

    fulfil: Any = app.operation("fulfil", main=[charge])
    caller.begin()
    caller.do(_begun(fulfil.using(within=caller.given), caller))
    other = fulfil.later(order=8)
    assert other.record().state is State.AVAILABLE
    caller.rollback()
    assert fulfil.where().count() == 1


def test_a_unique_key_is_one_inside_and_outside(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    first = double.using(key="out").later(1)
    caller.begin()
    insert(1)
    assert caller.later(double, 2, key="out").id == first.id
    second = caller.later(double, 3, key="in")
    assert caller.later(double, 4, key="in").id == second.id
    with pytest.raises(Duplicate):
        caller.later(double, 5, key="in", on_duplicate="raise")
    insert(2)  # the transaction goes on
    caller.commit()
    drain(app)
    assert (first.result(timeout=0), second.result(timeout=0)) == (2, 6)
    assert app.jobs.where().count() == 2
    assert numbers_in(store_url) == [1, 2]


def add(app: Piecework, caller: Caller, jobs: list[NewJob]) -> None:
    caller.do(app.add(jobs, within=caller.given) if caller.runner is None else app.aadd(jobs, within=caller.given))


def test_what_is_refused_leaves_the_transaction_as_it_was(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    caller.begin()
    insert(1)
    kept = caller.later(double, 1)
    job = double._new_job("the same", (1,), {})
    jobs = [job, msgspec.structs.replace(job, id="a piece", batch="no such batch", ordinal=0)]
    with pytest.raises(UsageError, match="no batch"):
        add(app, caller, jobs)
    insert(2)
    caller.commit()
    assert [job.id for job in app.jobs.where()] == [kept.id]
    assert numbers_in(store_url) == [1, 2]


def test_a_connection_that_commits_by_itself_is_refused(
    app: Piecework, double: Double, caller: Caller, store_url: str
) -> None:
    by_itself(caller)
    with pytest.raises(
        WithinNotSupported, match=r"commits each statement by itself: (call it inside|leave out|.*BEGIN)"
    ):
        caller.later(double, 1)
    assert nothing(app)
    assert numbers_in(store_url) == []


def by_itself(caller: Caller) -> None:
    """Lets a connection commit each statement by itself, by the means of its kind."""
    kind = type(caller).__name__
    if kind in ("OfDjango", "OfSqlite3"):
        return  # until a transaction is begun
    if kind.startswith("OfPsycopg"):
        caller.do(caller.given.set_autocommit(True) if caller.runner else setattr(caller.given, "autocommit", True))
    elif "Session" in kind:
        caller.do(caller.given.connection(execution_options={"isolation_level": "AUTOCOMMIT"}))
    else:
        caller.do(caller.given.execution_options(isolation_level="AUTOCOMMIT"))


@pytest.mark.parametrize("caller", AWAITED, indirect=True)
def test_an_asynchronous_connection_is_awaited(app: Piecework, double: Double, caller: Caller) -> None:
    with pytest.raises(WithinNotSupported, match="await alater"):
        double.using(within=caller.given).later(1)
    assert nothing(app)


@pytest.mark.parametrize(
    "caller", [kind for kind in ALL if kind not in AWAITED and "django" not in kind], indirect=True
)
async def test_alater_uses_a_synchronous_connection_on_the_thread_that_it_is_of(
    app: Piecework, double: Double, caller: Caller, insert: Any, store_url: str
) -> None:
    caller.begin()
    insert(1)
    job = await double.using(within=caller.given).alater(1)
    jobs = await double.using(within=caller.given).alater_many([(2,), (3,)])
    assert nothing(app)
    caller.commit()
    assert {found.id for found in app.jobs.where()} == {job.id, *(one.id for one in jobs)}
    assert numbers_in(store_url) == [1]


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────

# Forked from a process that has loaded the drivers: to load them takes a second for each.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.callers"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_kill_9_before_the_commit_leaves_neither_and_after_it_both(
    app: Piecework, double: Double, caller: Caller, kind_of_caller: str, store_url: str, when: str
) -> None:
    shelf, _, kind = kind_of_caller.partition("-")
    hears, says = FORKS.Pipe(duplex=False)
    victim = FORKS.Process(target=begin_and_die, args=(store_url, shelf, kind, when == "after", says))
    victim.start()
    says.close()
    assert hears.poll(60)
    job = hears.recv()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    drain(app)
    assert numbers_in(store_url) == ([1] if when == "after" else [])
    assert [found.id for found in app.jobs.where()] == ([job] if when == "after" else [])


# ── another database ─────────────────────────────────────────────────────────────────────────────


def test_a_connection_to_another_database_is_refused(
    app: Piecework, double: Double, caller: Caller, kind_of_caller: str, tmp_path: Path, postgres: Postgres
) -> None:
    shelf, _, kind = kind_of_caller.partition("-")
    other = f"sqlite:///{tmp_path}/other.db"
    if shelf == "postgres":
        other = postgres.url.rpartition("/")[0] + "/template1"
    with opened(shelf, kind, other) as elsewhere:
        elsewhere.begin()
        with pytest.raises(WithinNotSupported, match=r"the store's own (database|file); this one is to"):
            elsewhere.later(double, 1)
        elsewhere.execute("SELECT 1")  # and the transaction there goes on
        elsewhere.rollback()
    assert nothing(app)
