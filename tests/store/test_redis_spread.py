"""Many shards on a Cluster of six nodes: what lies where, that the load is shared, and what holds over all of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis as driver
from redis.crc import key_slot
from tests.redis_books import books
from tests.redis_servers import MASTERS, Redis, RedisCluster

from piecework import parting
from piecework.distributed import DistributedJob
from piecework.errors import LeaseLost, StoreError, StoreUnavailable
from piecework.job import Filter, NewBatch, State
from piecework.store.redis import enqueue, work
from piecework.store.redis.homes import SLOTS, tags
from piecework.store.redis.shard import Shard
from piecework.store.redis.store import RedisStore
from piecework.testing.conformance.kit import (
    SESSIONS,
    a_claim,
    a_job,
    add,
    at_work,
    completed,
    everything,
    fetch,
    fetch_one,
    record,
    settle,
)

_prefixes = itertools.count(1)
QUEUES = [f"queue-{n}" for n in range(60)]


@pytest.fixture
def url(cluster: RedisCluster) -> str:
    return f"{cluster.url}?prefix=s_{next(_prefixes)}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    with at_work(RedisStore(url), sound=False) as store:
        yield store


def commands(cluster: RedisCluster) -> list[int]:
    """How many scripts each master has run so far."""
    told = [node.ask("INFO", "commandstats") for node in cluster.masters]
    return [sum(some.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")) for some in told]


# ── where things lie ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 64, 256])
def test_shards_lie_evenly_over_the_slots(n: int) -> None:
    slots = sorted(key_slot(tag.encode()) for tag in tags("piecework", n))
    gaps = [(after - before) % SLOTS or SLOTS for before, after in zip(slots, [*slots[1:], slots[0]], strict=True)]
    assert max(gaps) <= 2 * SLOTS / n
    assert tags("piecework", n)[0] == "piecework.0"


def test_every_key_of_a_store_has_the_tag_of_its_shard(store: RedisStore, cluster: RedisCluster, url: str) -> None:
    for queue in QUEUES:
        add(store, queue=queue)
    prefix = url.partition("prefix=")[2]
    names = {name for node in cluster.masters for name in node.ask("KEYS", f"{prefix}:*")}
    assert {name.partition("{")[2].partition("}")[0] for name in names} <= set(tags(prefix, 16))


def test_queues_are_spread_over_the_masters(store: RedisStore, cluster: RedisCluster) -> None:
    """Each of the three masters gets its part of the jobs, and of the work that they make."""
    before = commands(cluster)
    ids = [add(store, queue=queue) for queue in QUEUES]
    runs = fetch(store, limit=len(ids))
    assert {run.id for run in runs} == set(ids)
    assert store.settle([completed(run) for run in runs]) == ["ok"] * len(ids)
    work = [after - start for start, after in zip(before, commands(cluster), strict=True)]
    homes = Counter(store._set_up().homes.find(ids).values())
    masters = Counter[int]()
    for home, n in homes.items():
        masters[key_slot(store._set_up().shards[home].tag.encode()) * MASTERS // SLOTS] += n
    print(f"jobs on each shard {sorted(homes.values())}, on each master {dict(masters)}; scripts run by each {work}")
    assert len(homes) >= 12
    assert all(masters[master] >= len(ids) / 8 for master in range(MASTERS))
    assert min(work) >= sum(work) / 8


def test_no_shard_is_pruned_before_the_others_again_and_again(store: RedisStore) -> None:
    """Where each bite is full, as in a busy store, all masters get room."""
    ids = [add(store, queue=queue) for queue in QUEUES for _ in range(3)]
    store.settle([completed(run) for run in fetch(store, limit=len(ids))])
    homes = set(store._set_up().homes.find(ids).values())
    for _ in store._set_up().shards:
        assert store.prune(before=store.now() + 60, limit=1) == 1
    left = Counter(store._set_up().homes.of_name(record.queue) for record in everything(store))
    before = Counter(store._set_up().homes.of_name(queue) for queue in QUEUES for _ in range(3))
    assert all(left[home] < before[home] for home in homes)


def test_a_tree_lives_in_one_shard(store: RedisStore) -> None:
    """Pieces of other queues too, and splits below: an end and what follows from it are one transaction."""
    root = add(store, queue="top")
    run = fetch_one(store)
    pieces = [a_job(batch=root, ordinal=n, queue=queue) for n, queue in enumerate(QUEUES)]
    store.add(pieces, batch=NewBatch(id=root, then=root), fence=run.fence)
    homes = store._set_up().homes.find([root, *(piece.id for piece in pieces)])
    assert len(homes) == 1 + len(pieces)
    assert len(set(homes.values())) == 1


def test_another_process_finds_who_lives_where(store: RedisStore, url: str) -> None:
    ids = [add(store, queue=queue) for queue in QUEUES]
    other = RedisStore(url)
    assert [job.id for job in other.get(ids)] == ids
    assert [job.id for job in other.find(Filter(ids=tuple(ids)))] == ids
    assert other.cancel(Filter(ids=tuple(ids[:20])), reason="enough") == 20
    assert record(store, ids[19]).state is State.CANCELLED
    other.close()


def test_a_large_call_goes_in_bites_in_each_shard_and_is_ended_there(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "BITE", 4)
    jobs = [a_job(f"j{n}", key=f"k{n}") for n in range(100)]
    run, left = Shard.run, [None] * 40

    def broken(shard: Shard, title: str, *told: Any, **more: Any) -> Any:
        if not left:
            raise StoreUnavailable("the store is away")
        left.pop()
        return run(shard, title, *told, **more)

    monkeypatch.setattr(Shard, "run", broken)
    with pytest.raises(StoreUnavailable):
        store.add(jobs)
    monkeypatch.setattr(Shard, "run", run)
    assert 0 < store.count(Filter()) < 100
    assert store.add(jobs) == [job.id for job in jobs]
    store.repair()
    assert store.count(Filter()) == 100


def test_parts_end_in_bites_in_the_shard_of_their_token(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "BITE", 3)
    for token in ("t", "u", "v"):
        job = DistributedJob(store.parts, token, then=a_job(f"then {token}"))
        job.push_all(range(10))
        assert [bool(answer) for answer in job.done_many(range(10))] == [False] * 9 + [True]
    assert [found.token for found in store.parts.find()] == ["v", "u", "t"]
    assert store.count(Filter()) == 3


# ── what holds over all shards ───────────────────────────────────────────────────────────────────


def test_the_order_of_fetching_holds_over_all_shards(store: RedisStore) -> None:
    jobs = [(a_job(queue=queue, priority=n % 7, run_at=1000.0 + n * 17 % 11), n) for n, queue in enumerate(QUEUES)]
    for job, _ in jobs:
        store.add([job])
    expected = [job.id for job, n in sorted(jobs, key=lambda one: (one[0].priority, one[0].run_at, one[1]))]
    fetched = [run.id for _ in range(6) for run in fetch(store, limit=10)]
    assert fetched == expected


def test_a_claim_that_was_answered_gets_the_jobs_of_all_shards_again(store: RedisStore) -> None:
    for queue in QUEUES:
        add(store, queue=queue)
    claim = a_claim(limit=30)
    first = store.fetch(claim)
    assert {run.id for run in store.fetch(claim)} == {run.id for run in first}
    assert len(first) == 30


def test_pages_go_through_all_shards_in_the_order_of_arrival(store: RedisStore) -> None:
    ids = [add(store, queue=queue) for _ in range(2) for queue in QUEUES]
    for newest in (False, True):
        found: list[str] = []
        while page := store.find(Filter(), after=found[-1] if found else None, limit=7, newest=newest):
            found += [job.id for job in page]
        assert found == (ids[::-1] if newest else ids)
    assert store.count(Filter()) == len(ids)
    assert sum(store.counts().values()) == len(ids)


def test_jobs_of_one_place_in_several_shards_are_each_told_once(store: RedisStore, cluster: RedisCluster) -> None:
    """Places are the time of arrival, which two servers may have in common."""
    with driver.RedisCluster(host="127.0.0.1", port=cluster.masters[0].port) as con:
        for shard in store._set_up().shards:
            con.hset(shard.keys[0], "last", 4_000_000_000_000_000)  # from there on places are counted
    ids = {add(store, queue=queue) for queue in QUEUES[:30]}
    for newest in (False, True):
        found: list[str] = []
        while page := store.find(Filter(), after=found[-1] if found else None, limit=3, newest=newest):
            found += [job.id for job in page]
        assert len(found) == len(set(found)) == len(ids)


def test_who_is_buried_loses_what_runs_in_every_shard(store: RedisStore) -> None:
    for queue in QUEUES:
        add(store, queue=queue)
    runs = fetch(store, limit=len(QUEUES))
    (beat,) = [session.beat for session in store.sessions() if session.id == SESSIONS[0]]
    assert store.bury(SESSIONS[0], beat + 1) is None
    assert store.bury(SESSIONS[0], beat) == len(runs)
    assert store.counts() == {(queue, "available"): 1 for queue in QUEUES}
    assert settle(store, completed(runs[0])) == "stale"
    with pytest.raises(LeaseLost):
        fetch(store)


@pytest.mark.parametrize("ended", [0, 5, 15])
def test_a_burial_that_was_interrupted_is_completed_by_the_next(store: RedisStore, ended: int) -> None:
    """Whoever buries dies behind so many shards: the session is seen still, is dead for itself, and another buries it."""
    for queue in QUEUES:
        add(store, queue=queue)
    fetch(store, limit=len(QUEUES))
    session, beat = SESSIONS[0], store.sessions()[0].beat
    spread = store._set_up()
    assert spread.shards[0].run("mark", (session, beat))
    for shard in spread.shards[1 : 1 + ended]:
        shard.run("bury", (session, False, "it stopped beating"))
    assert not store.renew(session)
    assert session in {one.id for one in store.sessions()}
    assert store.bury(session, beat) is not None
    assert store.counts() == {(queue, "available"): 1 for queue in QUEUES}
    assert session not in {one.id for one in store.sessions()}


# ── their number ─────────────────────────────────────────────────────────────────────────────────


def test_the_number_of_shards_stays_as_it_was_set_up(redis: Redis) -> None:
    base = f"{redis.url}?prefix=s_{next(_prefixes)}"
    store = RedisStore(f"{base}&shards=4")
    ids = [add(store, queue=queue) for queue in QUEUES]
    with pytest.raises(StoreError, match="was set up with 4 shards, and the URL says 8; .* say [?]shards=4 or nothing"):
        RedisStore(f"{base}&shards=8").counts()
    other = RedisStore(base)
    assert len(other._set_up().shards) == 4
    assert [job.id for job in everything(other)] == ids
    store.close()
    other.close()


def test_a_server_alone_has_one_shard_and_a_cluster_sixteen(store: RedisStore, redis: Redis) -> None:
    alone = RedisStore(f"{redis.url}?prefix=s_{next(_prefixes)}")
    assert len(alone._set_up().shards) == 1
    assert len(store._set_up().shards) == 16
    alone.close()


def test_a_worker_that_was_reaped_gets_nothing_in_any_shard(store: RedisStore) -> None:
    """A request to one of the shards may be late by itself: each of them knows."""
    ids = {add(store, queue=queue) for queue in QUEUES}
    runs = fetch(store, limit=len(ids), worker="w.2")
    assert {fence.id for fence in store.holds("w.2")} == {run.id for run in runs} == ids
    assert set(store.reap("w.2")) == ids
    assert store.holds("w.2") == []
    for shard in store._set_up().shards:
        with pytest.raises(LeaseLost):
            work.exchange(shard, (), a_claim("w.2", 5))
        assert shard.run("heads", work.claim_row(a_claim("w.3", 5)))
    assert {run.id for run in fetch(store, limit=len(ids), worker="w.3")} == ids


def test_the_books_are_those_of_every_shard(store: RedisStore, cluster: RedisCluster, url: str) -> None:
    """The judge of the crash ring looks through all shards, and for jobs that are in two of them."""
    ids = [add(store, queue=queue) for queue in QUEUES]
    assert books(url) == []
    at = [shard.keys[4] for shard in store._set_up().shards]
    with driver.RedisCluster(host="127.0.0.1", port=cluster.masters[0].port, decode_responses=True) as con:
        homes = [key for key in at if con.hlen(key)]
        assert len(homes) > MASTERS
        for home, other in itertools.pairwise(homes):
            id, place = next(iter(con.hgetall(home).items()))
            assert id in ids
            con.hset(other, id, place)
            assert f"at has {id!r} in 2 shards" in books(url)
            con.hdel(other, id)
            con.hdel(home, id)
            assert len(books(url)) == 1
            con.hset(home, id, place)
    assert books(url) == []
