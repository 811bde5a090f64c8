"""Behind a real PgBouncer in transaction mode: four connections for everybody, handed on after each transaction.

Whatever a session would keep (a prepared statement, a lock, a listener, a setting) would be found by somebody else.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.pooler import PgBouncer
from tests.processes import Tree
from tests.schemas import Schemas
from tests.servers import Postgres, ServerMissing
from tests.support import books, until

from piecework.errors import StoreError, StoreUnavailable
from piecework.job import Answer
from piecework.store.postgres.store import PostgresStore
from piecework.testing import FrozenClock
from piecework.testing.conformance import (
    ExchangeConformance,
    FetchConformance,
    KeepConformance,
    PiecesConformance,
    TransactionConformance,
    WithinConformance,
)
from piecework.testing.conformance.kit import a_session, add, completed, fetch_one, settle, together


@pytest.fixture(scope="module")
def pooler(postgres: Postgres) -> Iterator[PgBouncer]:
    """A pooler in front of the server of this process."""
    try:
        pooler = PgBouncer(postgres).start()
    except ServerMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    yield pooler
    pooler.stop()


@pytest.fixture
def store_url(lent: Schemas, pooler: PgBouncer) -> Iterator[str]:
    """A store that is set up and empty. What the pooler keeps open after its clients have gone is nobody's."""
    url = lent.take()
    yield url
    lent.give_back(url, pooler.spare)


@pytest.fixture
def schema(store_url: str) -> str:
    """The schema, which is set up and empty."""
    return store_url.partition("?schema=")[2]


@pytest.fixture
def url(pooler: PgBouncer, schema: str) -> str:
    """The store through the pooler, as somebody names it who says so."""
    return f"{pooler.url}?schema={schema}&pooler=yes"


class TestBehindAPooler(
    FetchConformance,
    ExchangeConformance,
    PiecesConformance,
    KeepConformance,
    TransactionConformance,
    WithinConformance,
):
    """The themes that lock, count and wait for each other."""

    @pytest.fixture
    def store(self, url: str, clock: FrozenClock) -> Iterator[PostgresStore]:
        store = PostgresStore(url, clock=clock)
        yield store
        store.close()

    @pytest.fixture
    def transaction(self, pooler: PgBouncer) -> Callable[[], AbstractContextManager[Any]]:
        @contextmanager
        def through_the_pooler() -> Iterator[psycopg.Connection[Any]]:
            with psycopg.connect(pooler.url, prepare_threshold=None) as connection:
                yield connection

        return through_the_pooler


# ── who says nothing of it ───────────────────────────────────────────────────────────────────────


def busy(store: PostgresStore) -> Callable[[], None]:
    """Work in which each statement is asked often enough to be prepared."""

    def work() -> None:
        name = threading.current_thread().name
        store.enlist(a_session(name))
        for n in range(25):
            add(store, queue=name)
            assert settle(store, completed(fetch_one(store, worker=f"{name}.1", queue=name))) is Answer.OK, n
            store.counts()

    return work


def test_a_pooler_of_which_nobody_told_is_found_out(pooler: PgBouncer, schema: str, store_url: str) -> None:
    stores = [PostgresStore(f"{pooler.url}?schema={schema}") for _ in range(6)]
    together(*[busy(store) for store in stores])
    assert [store.db.place.pooler for store in stores] == [True] * 6
    assert books(store_url) == []
    for store in stores:
        store.close()


@pytest.mark.parametrize("said", ["", "&pooler=yes"])
def test_one_that_takes_no_transactions_is_refused_with_what_to_set(postgres: Postgres, schema: str, said: str) -> None:
    pooler = PgBouncer(postgres, "statement").start()
    store = PostgresStore(f"{pooler.url}?schema={schema}{said}")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="pool_mode = transaction") as raised:
                add(store)
            assert not isinstance(raised.value, StoreUnavailable)
    finally:
        store.close()
        pooler.stop()


def test_its_first_wait_finds_it_out_as_well(pooler: PgBouncer, schema: str, postgres: Postgres) -> None:
    store = PostgresStore(f"{pooler.url}?schema={schema}")
    assert store.wait(0.01) is True  # as always: nobody told this thread anything yet
    assert store.wait(0.3) is False
    with psycopg.connect(pooler.url, prepare_threshold=None) as con:
        assert con.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)
    with psycopg.connect(postgres.url) as con:
        assert con.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchone() == (0,)
    store.close()


def test_a_server_without_a_pooler_is_taken_for_what_it_is(store_url: str) -> None:
    store = PostgresStore(store_url)
    assert store.db.place.pooler is None
    store.counts()
    assert store.db.place.pooler is False
    store.close()


def test_who_denies_the_pooler_is_told_what_to_say(pooler: PgBouncer, schema: str) -> None:
    """Statements that one prepared are not known on the connection that it is given next, or known already."""
    stores = [PostgresStore(f"{pooler.url}?schema={schema}&pooler=no") for _ in range(6)]
    said: list[str] = []

    def work(store: PostgresStore) -> None:
        try:
            busy(store)()
        except StoreError as error:
            said.append(str(error))

    together(*[lambda s=store: work(s) for store in stores])
    assert said
    assert {"pooler=yes" in sentence for sentence in said} == {True}, said
    for store in stores:
        store.close()


# ── work ─────────────────────────────────────────────────────────────────────────────────────────

APP = """
import os
from collections.abc import Iterator
from piecework import Piece, Pieces, Piecework, Step, current, step, wait_for

app = Piecework(os.environ["POOLED_URL"])


@app.task
def square(n: int) -> int:
    return n * n


@app.task(transaction=True)
def noted(n: int) -> int:
    current.connection.execute("SELECT %s", (n,))
    return n


@app.split
def squares(n: int) -> Iterator[Piece[int]]:
    for m in range(n):
        yield square.piece(m)


@squares.compose
def total(pieces: Pieces[int], n: int) -> int:
    return sum(pieces.results())


@app.task(attempts=3, retry=0)
def flaky(n: int) -> int:
    if current.attempt == 1:
        raise ValueError("the first attempt")
    return n


def prepare(step: Step) -> None:
    step["prepared"] = step["n"] + 1


def export(step: Step) -> Iterator[Piece[int]]:
    for m in range(step["n"]):
        yield square.piece(m)


def exported(pieces: Pieces[int], step: Step) -> int:
    return sum(pieces.results())


def finish(step: Step) -> None:
    step["finished"] = [step["approval"], step["export"]]


walk = app.operation("walk", main=[prepare, wait_for("approval"), step(export, compose=exported), finish])
"""


@pytest.mark.parametrize("named", ["yes", "not"])
def test_workers_run_jobs_splits_and_operations_behind_a_pooler(
    tmp_path: Path, pooler: PgBouncer, schema: str, store_url: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two worker processes and a supervisor: nine connections, if each kept its own, for four that there are."""
    url = f"{pooler.url}?schema={schema}" + ("&pooler=yes" if named == "yes" else "")
    (tmp_path / "pooledapp.py").write_text(APP)
    monkeypatch.setenv("POOLED_URL", url)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    namespace: dict[str, Any] = {"__name__": "pooledapp"}
    exec(compile(APP, "pooledapp.py", "exec"), namespace)
    app = namespace["app"]
    command = [sys.executable, "-m", "piecework", "work", "pooledapp:app", "--processes", "2", "-c", "4"]
    tree = Tree(command, dict(os.environ), tmp_path / "log")
    try:
        operation = namespace["walk"].later(n=5)
        jobs = namespace["square"].later_many([(n,) for n in range(60)])
        flaky = [namespace["flaky"].later(n) for n in range(5)]
        split, late = namespace["squares"].later(70), namespace["noted"].using(delay=0.5).later(7)
        until(lambda: operation.waits_for == "approval", lambda: f"it waits: {operation.status}\n{tree.log()}")
        operation.signal("approval", "yes")
        assert split.result(timeout=30) == sum(n * n for n in range(70))
        assert [job.result(timeout=30) for job in jobs] == [n * n for n in range(60)]
        assert [job.result(timeout=30) for job in flaky] == [0, 1, 2, 3, 4]
        assert late.result(timeout=30) == 7
        until(lambda: operation.state == "completed", lambda: f"it completes: {operation.status}\n{tree.log()}")
        assert operation.globals["finished"] == ["yes", 30]
        assert tree.stop() == 0
        assert "WARNING" not in tree.log(), tree.log()
        assert books(store_url) == []
    finally:
        tree.destroy()
        app.close()
