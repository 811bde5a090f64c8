"""A server that keeps its connections open and says nothing: who waits for it comes back, and goes on by others."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.proxy import Proxy
from tests.servers import Postgres
from tests.support import narrow, until

from piecework import Piecework
from piecework.errors import BadSettings, StoreUnavailable
from piecework.job import Filter, State
from piecework.store import open_store
from piecework.store.postgres import store as shelf
from piecework.store.postgres.database import Database
from piecework.store.postgres.silence import silent_for
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.url import parse
from piecework.testing.conformance.kit import (
    a_job,
    add,
    assert_sound,
    completed,
    enlist,
    fetch,
    running,
    settle,
    state,
)

SILENCE = 0.2
_names = itertools.count(1)


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(int(postgres.url.rpartition(":")[2].partition("/")[0])) as proxy:
        yield proxy


@pytest.fixture
def url(postgres: Postgres) -> str:
    return f"{postgres.url}?schema=silence_{next(_names)}"


@pytest.fixture
def store(postgres: Postgres, proxy: Proxy, url: str) -> Iterator[PostgresStore]:
    """It reaches the server through the proxy."""
    port = postgres.url.rpartition(":")[2].partition("/")[0]
    store = PostgresStore(url.replace(f":{port}/", f":{proxy.port}/"))
    store.migrate()
    enlist(store)
    yield store
    proxy.serve()
    assert_sound(store)
    store.close()


@contextmanager
def impatient(store: PostgresStore) -> Iterator[None]:
    """Inside of it calls do not wait long; where the server is to answer, a busy machine may take its time."""
    place = store.db.place
    store.db.place = place._replace(silence=SILENCE)
    for con in store.db._free:
        con.silence = SILENCE  # type: ignore[attr-defined]
    yield
    store.db.place = place


CALLS: dict[str, Callable[[PostgresStore], Any]] = {
    "one job": add,
    "very many jobs": lambda store: store.add([a_job() for _ in range(3000)]),
    "a fetch": fetch,
    "a look": lambda store: store.get(["x"]),
    "a cancellation": lambda store: store.cancel(Filter(ids=("x",)), reason="no"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_nobody_answers_gives_up_and_the_next_one_finds_its_way(
    store: PostgresStore, proxy: Proxy, call: Callable[[PostgresStore], Any]
) -> None:
    add(store)
    proxy.stall()
    with impatient(store), pytest.raises(StoreUnavailable, match=r"said nothing for 0\.2 s"):
        call(store)
    proxy.cut()
    proxy.serve()
    call(store)


def test_a_beat_gives_up_in_time_for_another(
    postgres: Postgres, store: PostgresStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before other calls do: others would bury the session."""
    monkeypatch.setattr(shelf, "BEAT_SILENCE", SILENCE)
    add(store)
    proxy.stall()
    with pytest.raises(StoreUnavailable, match=r"said nothing for 0\.2 s"):
        store.renew("w")
    proxy.cut()
    proxy.serve()
    monkeypatch.undo()
    assert store.renew("w")


def test_the_end_of_a_run_that_nobody_answers_is_given_up_and_rolled_back(store: PostgresStore, proxy: Proxy) -> None:
    run = running(store)

    def end() -> None:  # its connection is a new one
        with store.transaction() as effects:
            effects.set_status(run.fence, '"half"')
            proxy.stall()
            with impatient(store):
                effects.settle(completed(run))

    with pytest.raises(StoreUnavailable, match="lost the connection"):
        end()
    proxy.cut()
    proxy.serve()
    assert state(store, run.id) is State.RUNNING
    settle(store, completed(run))


def test_what_takes_long_by_right_may_take_long(url: str) -> None:
    """The statements of a task on its own connection, and a change of the tables."""
    store = PostgresStore(f"{url}&silence=0.5")
    store.migrate()
    with store.transaction() as effects:
        effects.connection.execute("SELECT pg_sleep(0.7)")
    store.db.change(lambda con: con.execute("SELECT pg_sleep(0.7)"))
    store.close()


def test_who_waits_for_a_hint_may_wait_longer(url: str) -> None:
    """There is nothing to say."""
    store = PostgresStore(f"{url}&silence=0.5")
    store.migrate()
    until(lambda: not store.wait(0.8), "all is quiet")
    store.close()


def test_what_the_network_does_not_take_at_once_is_sent_before_an_answer_is_awaited(url: str) -> None:
    con = Database(parse(url)).connect()
    narrow(con)
    with closing(con), silent_for(con, 30.0), con.pipeline() as pipeline:
        cursor = con.execute("SELECT length(%s)", ["x" * 1_000_000])
        pipeline.sync()
        assert cursor.fetchone() == (1_000_000,)


def test_the_networks_own_limits_are_set_unless_the_url_sets_them() -> None:
    """A machine that is gone, or a network, is noticed by TCP: also by who only listens."""
    usual = conninfo_to_dict(parse("postgresql://localhost/db").conninfo)
    assert (usual["tcp_user_timeout"], usual["keepalives_idle"], usual["connect_timeout"]) == ("20000", "10", "10")
    own = conninfo_to_dict(parse("postgresql://localhost/db?tcp_user_timeout=5000&keepalives_idle=60").conninfo)
    assert (own["tcp_user_timeout"], own["keepalives_idle"], own["connect_timeout"]) == ("5000", "60", "10")


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "inf"])
def test_a_silence_that_cannot_be_is_refused(said: str) -> None:
    with pytest.raises(BadSettings, match=f"silence={said}; it can be a number of seconds, and 0"):
        open_store(f"postgresql://localhost/db?silence={said}")


def test_without_a_limit_it_waits(url: str) -> None:
    store = PostgresStore(f"{url}&silence=0")
    assert store.db.place.silence is None
    store.db.read(lambda con: con.execute("SELECT pg_sleep(0.3)"))
    store.close()


def test_a_worker_whose_servers_processes_are_stopped_goes_on_by_others(postgres: Postgres, url: str) -> None:
    """They are stopped where they hold nothing, as behind a machine that has gone to sleep."""
    app = Piecework(f"{url}&silence=1&application_name=silenced")

    @app.task
    def double(n: int) -> int:
        return 2 * n

    with psycopg.connect(postgres.url, autocommit=True) as admin, app.worker(concurrency=2):
        assert again_until_stored(lambda: double.later(1)).result(timeout=20) == 2
        stopped = stop_the_idle(admin)
        try:
            job = again_until_stored(lambda: double.later(2))
            assert job.result(timeout=20) == 4
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
    app.close()


def again_until_stored(call: Callable[[], Any]) -> Any:
    stored: list[Any] = []

    def tried() -> bool:
        try:
            stored.append(call())
        except StoreUnavailable:
            return False
        return True

    until(tried, "it was stored")
    return stored[0]


def stop_the_idle(admin: psycopg.Connection[Any]) -> list[int]:
    """Stops every process that serves the worker, at a moment when none is inside of a transaction."""
    stopped: list[int] = []

    def caught() -> bool:
        pids = [r[0] for r in admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'silenced'")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        inside = admin.execute("SELECT count(*) FROM pg_locks WHERE pid = ANY(%s)", (pids,)).fetchone()
        if inside == (0,):
            stopped.extend(pids)
            return True
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return False

    until(caught, "none was at work")
    return stopped
