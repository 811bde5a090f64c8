"""The server of a store on Redis dies, forgets, fills up, stands still or is followed by its replica; workers go on by themselves."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from comeback import AWAY, BACK, Body, Phase, Strike, comes_back, said, while_idle, while_running
from tests.proxy import Proxy
from tests.redis_servers import Redis, RedisCluster, Watched
from tests.support import until

from piecework import Piecework
from piecework.errors import StoreError, StoreUnavailable
from piecework.job import State
from piecework.outcome import Settlement
from piecework.store.redis.store import RedisStore
from piecework.testing.conformance import kit
from piecework.testing.conformance.kit import a_claim, a_job, a_session, add, assert_sound, completed, everything, fetch
from piecework.testing.conformance.operations import started, stepped

LOOPS = 3

_prefixes = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """One that may be ended."""
    server = Redis()
    yield server.start()
    server.stop()


@pytest.fixture
def url(server: Redis) -> str:
    return f"{server.url}?prefix=f_{next(_prefixes)}"


@pytest.fixture
def app(url: str) -> Iterator[Piecework]:
    app = Piecework(url, lease=2.0)  # beats twice a second
    yield app
    app.close()


def tells_it_once(caplog: pytest.LogCaptureFixture) -> bool:
    """Each loop that has met it says so once: who works, who listens, who beats."""
    return 1 <= said(caplog, AWAY) <= LOOPS and 1 <= said(caplog, BACK) <= said(caplog, AWAY)


def patiently(job: Any) -> Any:
    """A job's result, from a store that may be away for a while."""

    def ended() -> bool:
        try:
            return bool(job.state.finished)
        except StoreUnavailable:
            return False

    until(ended, "it has ended", within=30)
    return job.result(timeout=5)


# ── the server ends ──────────────────────────────────────────────────────────────────────────────


def while_listening(app: Piecework, body: Body, strike: Strike) -> Any:
    spread = app.store._set_up()  # type: ignore[attr-defined]
    until(lambda: app.store._client.command("ZCARD", spread.shards[0].keys[-1]), "it has lain down")  # type: ignore[attr-defined]
    strike()
    return body.task.later(4)


def while_settling(app: Piecework, body: Body, strike: Strike) -> Any:
    """The run ends while the server is gone."""
    job = body.task.later(4)
    assert body.begun.wait(10)
    strike(meanwhile=body.go.set)
    return job


PHASES = [while_idle, while_listening, while_running, while_settling]


@pytest.mark.parametrize("fsync", ["everysec", "always"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
def test_a_server_that_is_killed_and_comes_back_costs_nothing_but_time(
    app: Piecework, server: Redis, caplog: pytest.LogCaptureFixture, phase: Phase, fsync: str
) -> None:
    caplog.set_level(logging.INFO, "piecework")
    server.ask("CONFIG", "SET", "appendfsync", fsync)
    comes_back(app, caplog, phase, lambda: server.end(signal.SIGKILL), server.launch)
    assert tells_it_once(caplog)
    assert_sound(app.store)


# ── what can be lost ─────────────────────────────────────────────────────────────────────────────


class Told(NamedTuple):
    """What a caller was told, and how long the server's log was then."""

    size: int
    ids: tuple[str, ...]
    what: str  # added in one call, split, or completed


class Log:
    """The file in which a server writes what it does, before it answers."""

    def __init__(self, root: Path) -> None:
        (self.path,) = (root / "appendonlydir").glob("*.incr.aof")

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def some_work(store: RedisStore, log: Log) -> list[Told]:
    """Jobs come, splits open and close, runs end; what was acknowledged is written down."""
    told: list[Told] = []

    def note(ids: Iterable[str], what: str) -> None:
        told.append(Told(log.size, tuple(ids), what))

    def complete(n: int, queue: str | None = None) -> None:
        runs = fetch(store, n, queue=queue)
        store.settle([completed(run) for run in runs])
        note((run.id for run in runs), "completed")

    for n in range(4):
        note(store.add([a_job(key=f"k{n}"), a_job(delay=3600.0), a_job()]), "added")
        complete(2)
        root, pieces = kit.split(store, 3)
        note((root, *pieces), "split")
        complete(2, kit.LEAVES)
        complete(1, kit.LEAVES)
        complete(1)  # composes
    return told


def test_a_log_that_ends_anywhere_leaves_whole_calls_and_none_before_its_end_is_missing() -> None:
    """Whatever a crash of the machine takes of the end of the log, the store is one that was there at a moment before.

    So with `appendfsync always` nothing acknowledged is lost, and with `everysec` what was acknowledged since the last
    time that the log was forced to the disk.
    """
    first = Redis(appendfsync="always").start()  # what is acknowledged is in it
    with closing(RedisStore(first.url)) as store:
        store.migrate()
        for session in kit.SESSIONS:
            store.enlist(a_session(session))
        log = Log(first.root)
        begun = log.size
        told = some_work(store, log)
        final = log.size
    first.end(signal.SIGKILL)
    assert log.size == final, "what was acknowledged was in the log when the server was killed"
    second = Redis()
    second.port = first.port
    seen = set()
    for cut in [*range(begun, final, (final - begun) // 15), final]:
        shutil.rmtree(second.root / "appendonlydir", ignore_errors=True)
        shutil.copytree(first.root / "appendonlydir", second.root / "appendonlydir")
        os.truncate(Log(second.root).path, cut)
        second.launch()
        with closing(RedisStore(second.url)) as store:
            assert_sound(store)
            here = {job.id: job for job in everything(store)}
        for one in told:
            if one.size <= cut:
                assert here.keys() >= set(one.ids), f"lost before byte {cut} of {final}"
                assert one.what != "completed" or all(here[id].state.finished for id in one.ids)
            if one.what == "added":
                assert len(here.keys() & set(one.ids)) in (0, len(one.ids)), "a call is there wholly or not at all"
        seen.add(len(here))
        second.end()
    assert len(seen) > 10, "the log was cut in different places"
    first.stop()
    second.stop()


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_what_was_acknowledged_is_there_when_the_server_was_killed(fsync: str) -> None:
    """SIGKILL while eight threads add. With `everysec` a server whose disk is slow answers before it writes: what it loses
    then is the end of what each thread was told, and no more than two seconds of it.
    """
    server = Redis(appendfsync=fsync).start()
    store = RedisStore(server.url)
    store.migrate()
    told: list[list[tuple[float, str, str]]] = [[] for _ in range(8)]

    def adds(mine: list[tuple[float, str, str]]) -> None:
        try:
            while True:
                one, two = store.add([a_job(), a_job()])
                mine.append((time.monotonic(), one, two))
        except StoreUnavailable:
            return

    threads = [threading.Thread(target=adds, args=(mine,)) for mine in told]
    for thread in threads:
        thread.start()
    until(lambda: sum(map(len, told)) > 200, "they are at it")
    server.end(signal.SIGKILL)
    killed = time.monotonic()
    for thread in threads:
        thread.join()
    server.launch()
    here = {job.id for job in everything(store)}
    for mine in told:
        kept = [{one, two} <= here for _, one, two in mine]
        assert kept == sorted(kept, reverse=True), "what is lost is the end"
        assert all(kept) or fsync == "everysec"
        assert all(there or killed - when < 3.0 for there, (when, _, _) in zip(kept, mine, strict=True))
    assert len(here) % 2 == 0, "a call is stored wholly or not at all"
    assert_sound(store)
    store.close()
    server.stop()


# ── the server forgets its scripts, fills up, stands still ───────────────────────────────────────


def test_scripts_that_are_flushed_all_the_time_are_not_missed(app: Piecework, server: Redis) -> None:
    over = threading.Event()

    def flushes() -> None:
        while not over.wait(0.002):
            server.ask("SCRIPT", "FLUSH", "SYNC")

    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    thread = threading.Thread(target=flushes)
    thread.start()
    try:
        with app.worker(concurrency=4):
            jobs = [double.later(n) for n in range(100)]
            assert [job.result(timeout=20) for job in jobs] == [2 * n for n in range(100)]
    finally:
        over.set()
        thread.join()
    assert {job.record().run for job in jobs} == {1}
    assert_sound(app.store)


def test_where_memory_is_full_who_adds_is_told_and_workers_go_on(app: Piecework, server: Redis) -> None:
    """Nothing is stored of what was refused; what is there is worked off, and once there is room again, all is as before."""
    body = Body(app)
    with app.worker(concurrency=2):
        waits = [body.task.later(n) for n in range(6)]
        until(lambda: app.jobs.counts().get(("default", "running")) == 2, "both places are taken")
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        try:
            before = app.jobs.counts()
            with pytest.raises(StoreUnavailable, match="out of memory: nothing was stored.*maxmemory"):
                body.task.later(7)
            with pytest.raises(StoreUnavailable, match="out of memory"):
                body.task.later_many([(n,) for n in range(50)])
            assert app.jobs.counts() == before
            body.go.set()
            assert [job.result(timeout=20) for job in waits] == [2 * n for n in range(6)]
            assert app.store.prune(before=time.time() + 60) == 6, "room can be made"
        finally:
            server.ask("CONFIG", "SET", "maxmemory", "0")
        assert body.task.later(8).result(timeout=20) == 16
    assert_sound(app.store)


def test_a_splitter_that_meets_a_full_memory_goes_on_when_there_is_room(app: Piecework, server: Redis) -> None:
    full = threading.Event()

    @app.task(name="leaf")
    def leaf(n: int) -> int:
        return n

    @app.split(name="sum")
    def summed(n: int) -> Any:
        for k in range(n):
            if k == n // 2 and not full.is_set():
                server.ask("CONFIG", "SET", "maxmemory", "1mb")
                full.set()
            yield leaf.piece(k)

    @summed.compose
    def total(pieces: Any, n: int) -> int:
        return sum(pieces.results())

    with app.worker(concurrency=2):
        job = summed.later(200)
        assert full.wait(10)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert job.result(timeout=30) == sum(range(200))
    assert_sound(app.store)


def test_an_evicting_server_is_refused_where_a_worker_starts(server: Redis) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        app = Piecework(f"{server.url}?prefix=f_{next(_prefixes)}")
        with pytest.raises(StoreError, match="CONFIG SET maxmemory-policy noeviction"):
            app.store.migrate()
        app.close()
    finally:
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.parametrize("how", ["stopped", "stalled"])
def test_a_server_that_stands_still_for_a_while_costs_nothing_but_time(
    server: Redis, url: str, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Stopped like a machine that is paused, and cut off without a word: calls do not wait for ever, and are sent again."""
    caplog.set_level(logging.INFO, "piecework")
    with Proxy(server.port) as proxy:
        app = Piecework(url.replace(f":{server.port}", f":{proxy.port}") + "&timeout=0.3", lease=5.0)
        body = Body(app)
        with app.worker(concurrency=2):
            job = body.task.later(4)
            assert body.begun.wait(10)
            if how == "stopped":
                os.kill(server.pid, signal.SIGSTOP)
            else:
                proxy.stall()
            body.go.set()
            try:
                until(lambda: said(caplog, AWAY), "the worker has met it")
            finally:
                os.kill(server.pid, signal.SIGCONT)
                proxy.serve()
            assert job.result(timeout=20) == 8
        assert (body.runs, job.record().run) == (1, 1)
        assert tells_it_once(caplog)
        assert_sound(app.store)
        app.close()


# ── the replica takes over ───────────────────────────────────────────────────────────────────────


def test_a_replica_takes_over_and_the_workers_with_it(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "piecework")
    app = Piecework(f"{watched.url}?prefix=f_{next(_prefixes)}", lease=5.0)
    body = Body(app)
    with app.worker(concurrency=2):
        job = body.task.later(4)
        assert body.begun.wait(10)
        waits = body.task.later(5)
        until(lambda: watched.lag() == 0, "the replica has all of it")
        watched.master.end(signal.SIGKILL)
        until(lambda: said(caplog, AWAY), "the worker has met it")
        body.go.set()
        assert [patiently(job), patiently(waits)] == [8, 10]
        assert watched.replica.ask("INFO", "replication")["role"] == "master"
        until(lambda: tells_it_once(caplog), "whoever met it says that it is over")  # the loop that met it may be late
    assert body.runs == 2
    assert_sound(app.store)
    app.close()


@pytest.mark.parametrize("ends", ["a job", "a step", "a piece"])
def test_an_end_that_the_master_took_along_is_told_to_the_replica(watched: Watched, ends: str) -> None:
    """Acknowledged, and lost: nobody would ever end that job again. Whoever ended it does, once it is connected anew."""
    store = RedisStore(f"{watched.url}?prefix=f_{next(_prefixes)}")
    store.migrate()
    for session in kit.SESSIONS:
        store.enlist(a_session(session))
    settlements = list(ENDS_IN_TURN[ends](store))
    until(lambda: watched.lag() == 0, "the replica has all that was before")
    assert watched.link is not None
    watched.link.refuse()
    for settlement in settlements:
        assert store.settle([settlement]) == ["ok"]
    watched.master.end(signal.SIGKILL)

    def asked() -> bool:
        try:
            store.fetch(a_claim(queues=("nobody's",)))
            return True
        except StoreUnavailable:
            return False

    until(asked, "the replica has taken over", within=20)
    assert watched.replica.ask("INFO", "replication")["role"] == "master"
    last = settlements[-1]
    assert kit.record(store, last.id).state is last.state
    assert store.settle([last]) == ["already"]
    assert_sound(store)
    store.close()


def one_job(store: RedisStore) -> Iterator[Settlement]:
    add(store)
    yield completed(kit.fetch_one(store))


def two_steps(store: RedisStore) -> Iterator[Settlement]:
    """The second is nothing to who has not the first."""
    run = started(store)
    yield stepped(run, "main/b/2", State.RUNNING)
    yield stepped(msgspec.structs.replace(run, run=run.run + 1), "main/c/3", State.AVAILABLE)


def last_pieces(store: RedisStore) -> Iterator[Settlement]:
    kit.split(store, 2)
    for run in fetch(store, 2, queue=kit.LEAVES):
        yield completed(run)


ENDS_IN_TURN: dict[str, Callable[[RedisStore], Iterator[Settlement]]] = {
    "a job": one_job,
    "a step": two_steps,
    "a piece": last_pieces,
}


def test_a_master_of_a_cluster_is_followed_by_its_replica(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs of many queues, on all masters; the death of one holds up its shards, and then goes on."""
    caplog.set_level(logging.INFO, "piecework")
    cluster = RedisCluster()
    try:
        app = Piecework(f"{cluster.start().url}?prefix=f_{next(_prefixes)}", lease=10.0)
        body = Body(app)
        with app.worker(concurrency=12):
            jobs = [body.task.using(queue=f"q{n}").later(n) for n in range(12)]
            until(lambda: body.runs == 12, "all run")
            homes = app.store._set_up().homes.find([job.id for job in jobs])  # type: ignore[attr-defined]
            assert len(set(homes.values())) > 3
            cluster.masters[1].end(signal.SIGKILL)
            until(lambda: said(caplog, AWAY), "the worker has met it", within=20)
            body.go.set()
            assert [patiently(job) for job in jobs] == [2 * n for n in range(12)]
            assert patiently(body.task.using(queue="another").later(20)) == 40
        assert body.runs == 13
        assert_sound(app.store)
        app.close()
    finally:
        cluster.stop()
