"""The server cannot be reached for a while: real workers, and embedded ones, try ever more seldom and are back soon."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from awayapp import declare
from outage import AWAY, BACK, listening, play
from processes import Tree
from tests.proxy import Cut, Proxy
from tests.servers import Postgres
from tests.support import books, until

import piecework
from piecework import Piecework, current
from piecework.errors import StoreUnavailable

HERE = Path(__file__).parent
SOURCE = Path(piecework.__file__).parent.parent
DEAD = "this session was declared dead by others"

_schemas = itertools.count(1)


@pytest.fixture
def direct(postgres: Postgres) -> str:
    """Where the store is, without a proxy in between."""
    return f"{postgres.url}?schema=away_{next(_schemas)}"


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, postgres: Postgres, direct: str) -> str:
    return direct.replace(f":{postgres.port}/", f":{proxy.port}/")


class Caller(NamedTuple):
    """Whoever enqueues and looks. It is never cut off, and shares no object with the workers."""

    app: Piecework
    double: Any
    held: Any


@pytest.fixture
def caller(direct: str) -> Iterator[Caller]:
    app = Piecework(direct)
    app.store.migrate()
    yield Caller(app, *declare(app))
    app.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that lets a held job go."""
    return tmp_path / "gate"


def begun(gate: Path) -> list[int]:
    """The processes in which the held job was begun."""
    file = gate.with_name("gate.begun")
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Callable[..., Tree]]:
    """Starts `piecework work` on a store."""
    trees: list[Tree] = []

    def start(url: str, *options: str, lease: float = 20.0) -> Tree:
        path = os.pathsep.join([str(HERE), str(SOURCE)])
        env = {**os.environ, "PYTHONPATH": path, "AWAY_URL": url, "AWAY_LEASE": str(lease)}
        env.pop("PIECEWORK_URL", None)
        command = [sys.executable, "-m", "piecework", "work", "awayapp:app", *options]
        trees.append(Tree(command, env, tmp_path / f"worker-{len(trees)}.log"))
        return trees[-1]

    yield start
    for tree in trees:
        tree.destroy()


def pass_time(seconds: float) -> None:
    """Lets an absence last: there is nothing to wait for but its length."""
    began = time.monotonic()
    until(lambda: time.monotonic() - began >= seconds, within=seconds + 10)


def test_workers_try_ever_more_seldom_and_are_back_soon(
    caller: Caller, proxy: Proxy, through: str, direct: str, work: Callable[..., Tree]
) -> None:
    """One worker process dies meanwhile: its supervisor owes its jobs to a store that is not there."""
    tree = work(through, "-c", "2", "--processes", "2").ready()
    assert caller.double.later(1).result(timeout=20) == 2
    until(lambda: len(tree.children()) == 2, "both are there")
    (session,) = caller.app.store.sessions()
    proxy.slam()
    until(lambda: tree.log().count(AWAY) >= 2, "the workers have met it")
    first, second = tree.children()
    os.kill(first, signal.SIGKILL)
    until(lambda: tree.log().count(AWAY) >= 3, "so has the supervisor")
    before = proxy.accepted
    pass_time(2.0)
    tries = proxy.accepted - before
    job = caller.double.later(2)
    proxy.serve()
    assert job.result(timeout=10) == 4
    # Four processes, whose pauses have grown to more than half a second.
    assert 2 <= tries <= 40, tree.log()
    assert [s.id for s in caller.app.store.sessions()] == [session.id]
    assert second in tree.children()
    until(lambda: tree.log().count(BACK) >= 2, "it is told")
    assert tree.stop() == 0
    assert tree.log().count(AWAY) <= 4, "each process tells it once"
    assert tree.log().count(BACK) <= tree.log().count(AWAY)
    assert books(direct) == []


def test_a_worker_that_is_started_without_a_server_begins_when_there_is_one(
    caller: Caller, proxy: Proxy, through: str, work: Callable[..., Tree]
) -> None:
    proxy.slam()
    tree = work(through, "-c", "2")
    until(lambda: tree.log().count(AWAY), "it has met it")
    job = caller.double.later(3)
    before = proxy.accepted
    pass_time(1.0)
    assert proxy.accepted - before <= 10
    proxy.serve()
    assert job.result(timeout=20) == 6
    until(lambda: tree.log().count(BACK), "it is told")
    assert tree.stop() == 0
    assert (tree.log().count(AWAY), tree.log().count(BACK)) == (1, 1)


def test_a_worker_that_is_told_to_stop_without_a_server_ends(
    proxy: Proxy, through: str, work: Callable[..., Tree]
) -> None:
    tree = work(through, "-c", "2").ready()
    proxy.refuse()
    until(lambda: tree.log().count(AWAY), "it has met it")
    assert tree.stop() == 0


def test_a_worker_whose_session_was_buried_meanwhile_begins_a_new_one(
    caller: Caller, proxy: Proxy, through: str, direct: str, gate: Path, work: Callable[..., Tree]
) -> None:
    """Cut off for longer than its lease: another has its job, which is completed once; and it works again."""
    cut_off = work(through, "-c", "2", lease=1.0).ready()
    held = caller.held.later(str(gate))
    until(lambda: begun(gate), "it runs")
    other = work(direct, "-c", "2", lease=1.0).ready()
    before = {s.pid: s.id for s in caller.app.store.sessions()}
    proxy.slam()
    until(lambda: len(begun(gate)) == 2, "the other runs it", within=30)
    gate.write_text("done once")
    assert held.result(timeout=20) == "done once"
    proxy.serve()
    until(lambda: DEAD in cut_off.log(), cut_off.log, within=30)
    until(lambda: cut_off.pid in {s.pid for s in caller.app.store.sessions()}, "it is enlisted again")
    assert other.stop() == 0
    assert caller.double.later(4).result(timeout=20) == 8
    after = {s.pid: s.id for s in caller.app.store.sessions()}
    assert after[cut_off.pid] != before[cut_off.pid]
    assert cut_off.stop() == 0
    assert (held.record().run, [line.outcome for line in held.attempts()]) == (2, ["released"])
    assert held.record().attempt == 1
    assert (cut_off.log().count(AWAY), cut_off.log().count(DEAD)) == (2, 1), cut_off.log()
    assert books(direct) == []


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_an_embedded_worker_whose_session_was_buried_meanwhile_begins_a_new_one(
    caller: Caller, proxy: Proxy, through: str, direct: str, gate: Path, busy: bool
) -> None:
    """An idle one asks for nothing once its lease is over, so nobody but its own beat can tell it."""
    app = Piecework(through, lease=1.0)
    declare(app)
    with listening() as said, app.worker(concurrency=2):
        (session,) = caller.app.store.sessions()
        if busy:
            held = caller.held.later(str(gate))
            until(lambda: begun(gate), "it runs")
        proxy.slam()
        until(lambda: said.times(AWAY), "it has met it")
        pass_time(1.5)
        assert caller.app.store.bury(session.id) == int(busy)
        proxy.serve()
        until(lambda: caller.app.store.sessions(), "it is enlisted again", within=10)
        assert caller.double.later(4).result(timeout=10) == 8
        assert caller.app.store.sessions()[0].id != session.id
        if busy:
            gate.write_text("done once")
            assert held.result(timeout=10) == "done once"
            assert held.record().attempt == 1
        assert (said.times(AWAY), said.times(BACK), said.times(DEAD)) == (1, 1, 1), said.lines
    app.close()
    assert books(direct) == []


def test_who_waits_for_a_result_waits_through_an_absence(
    caller: Caller, proxy: Proxy, through: str, gate: Path
) -> None:
    app = Piecework(through)
    held = declare(app).held.later(str(gate))
    results: list[str] = []
    with listening() as said, caller.app.worker(concurrency=1):
        waiter = threading.Thread(target=lambda: results.append(held.result(timeout=30)))
        waiter.start()
        until(lambda: begun(gate), "it runs")
        proxy.slam()
        until(lambda: said.times(AWAY), "the waiter has met it")
        gate.write_text("waited for")
        before = proxy.accepted
        pass_time(1.0)
        assert proxy.accepted - before <= 5
        with pytest.raises(StoreUnavailable):
            held.result(timeout=0.2)
        proxy.serve()
        waiter.join(20)
    assert results == ["waited for"]
    assert (said.times(AWAY), said.times(BACK)) == (2, 1)  # the second one's time was over before
    app.close()


async def test_who_awaits_a_result_waits_through_an_absence(caller: Caller, proxy: Proxy, through: str) -> None:
    app = Piecework(through)
    job = declare(app).double.later(21)
    proxy.slam()
    waits = asyncio.ensure_future(job.aresult(timeout=30))
    await asyncio.sleep(0)
    with caller.app.worker(concurrency=1), listening():
        assert await caller.app.jobs.get(job.id).aresult(timeout=20) == 42
        assert not waits.done()
        proxy.serve()
        assert await waits == 42
    app.close()


def test_an_outage_with_jobs_in_flight_loses_and_repeats_nothing(postgres: Postgres) -> None:
    """Longer than the lease: nobody else could have looked meanwhile, so the session lives on."""
    came = play(postgres, f"away_{next(_schemas)}", jobs=400, seconds=2.0, lease=1.0)
    assert came.wrong == []
    assert 4 <= came.tries <= 60


@pytest.mark.parametrize("message", range(1, 9))
def test_a_run_with_a_transaction_that_is_cut_at_any_message_has_its_effect_once(
    caller: Caller, proxy: Proxy, through: str, direct: str, message: int
) -> None:
    """Also where its commit was done and nobody heard of it: then the run has completed, whatever its worker believes."""
    app = Piecework(through)

    @app.task(name="charge", transaction=True, attempts=5, retry=0)
    def charge() -> None:
        if not proxy.struck:
            proxy.arm(message, Cut.AFTER)
        current.connection.execute("INSERT INTO effect VALUES (1)")

    with psycopg.connect(direct.partition("?")[0], autocommit=True) as con:
        con.execute("DROP TABLE IF EXISTS effect; CREATE TABLE effect (n integer)")
        job = charge.later()
        with app.worker(concurrency=1):
            assert caller.app.jobs.get(job.id).result(timeout=20) is None
            until(lambda: proxy.struck, "something was cut")
        assert con.execute("SELECT count(*) FROM effect").fetchone() == (1,)
    app.close()
    assert books(direct) == []
