"""Identities, tags and statuses on Redis beside their contract: what they cost, whom they cost nothing, and what is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis as Driver
from tests.redis_bites import small_bites
from tests.redis_books import books
from tests.redis_servers import Redis, RedisCluster

from piecework.errors import StoreUnavailable, UsageError
from piecework.job import Fetched, Filter, State
from piecework.store.redis.shard import Shard, unpack
from piecework.store.redis.store import RedisStore
from piecework.testing.conformance.kit import (
    a_job,
    add,
    completed,
    enlist,
    failed,
    fetch,
    fetch_one,
    record,
    running,
    settle,
)

LONG = '"' + "x" * 5000 + '"'  # stands beside the row
_prefixes = itertools.count(1)


def begun(url: str) -> RedisStore:
    store = RedisStore(url)
    enlist(store)
    return store


@pytest.fixture
def url(redis: Redis) -> str:
    return f"{redis.url}?prefix=l_{next(_prefixes)}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    store = begun(url)
    yield store
    store.close()


@pytest.fixture
def kept(redis: Redis, store: RedisStore) -> Iterator[Callable[[str], Any]]:
    """What a key of the store holds."""
    shard = store._set_up().shards[0]
    names = {key.rpartition(":")[2]: key for key in shard.keys}
    with Driver.from_url(redis.url) as server:

        def kept(name: str) -> Any:
            key = names[name]
            return server.hgetall(key) if server.type(key) == b"hash" else server.zrange(key, 0, -1)

        yield kept


def rows(kept: Callable[[str], Any], id: str) -> tuple[list[Any], list[Any]]:
    """What changes of a job and what does not, as they are stored."""
    place = kept("at")[id.encode()]
    return unpack(kept("job")[place]), unpack(kept("fixed")[place])


# ── whom they cost nothing ───────────────────────────────────────────────────────────────────────


def test_a_job_without_labels_is_stored_as_if_there_were_none(store: RedisStore, kept: Callable[[str], Any]) -> None:
    plain = add(store)
    assert [len(row) for row in rows(kept, plain)] == [7, 6]
    assert len(kept("index")) == 2  # by state, by task
    settle(store, completed(fetch_one(store)))
    assert [len(row) for row in rows(kept, plain)] == [15, 6]
    assert len(kept("index")) == 2


def test_tags_change_nothing_of_the_way_that_a_job_goes(store: RedisStore, kept: Callable[[str], Any]) -> None:
    """They are posted when it is added, and the rest is as with any other."""
    tagged = add(store, tags=("x", "y"))
    assert [len(row) for row in rows(kept, tagged)] == [7, 7]
    settle(store, completed(fetch_one(store)))
    assert [len(row) for row in rows(kept, tagged)] == [15, 7]
    assert record(store, tagged).tags == ("x", "y")
    assert store.count(Filter(tags=("y",), state=State.COMPLETED)) == 1


@pytest.mark.parametrize("labels", [{"identity": "7"}, {"identity": ""}, {"identity": "7", "tags": ("x",)}])
def test_a_job_with_an_identity_is_never_taken_for_a_plain_one(
    store: RedisStore, url: str, labels: dict[str, Any]
) -> None:
    """Its end is counted with its identity, however good it is, also beside many plain ones in one call."""
    store.add([a_job() for _ in range(5)] + [a_job(**labels) for _ in range(5)])
    runs = fetch(store, limit=10)
    standing = store.standing(["demo"], labels["identity"])
    assert standing is not None
    assert standing.busy
    store.settle([completed(run) for run in runs])
    standing = store.standing(["demo"], labels["identity"])
    assert standing is not None
    assert not standing.busy
    assert books(url) == []


def test_a_run_that_says_how_it_is_ends_with_that(store: RedisStore, url: str) -> None:
    """A plain job is none any more once it has a status."""
    run = running(store)
    store.set_status(run.fence, "{}")
    settle(store, completed(run))
    assert (record(store, run.id).status, record(store, run.id).state) == ("{}", State.COMPLETED)
    assert books(url) == []


def test_where_memory_is_full_a_run_says_how_it_is_all_the_same(store: RedisStore, redis: Redis) -> None:
    """It goes on working there, as it may end and say how far it is."""
    run = running(store, identity="7")
    redis.ask("CONFIG", "SET", "maxmemory", "1mb")
    try:
        with pytest.raises(StoreUnavailable, match="out of memory"):
            add(store)
        assert store.set_status(run.fence, LONG)
        assert record(store, run.id).status == LONG
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", "0")


# ── what they cost ───────────────────────────────────────────────────────────────────────────────


def commands(redis: Redis, verb: Callable[[], object]) -> int:
    """How many commands of the store's a call takes, those in scripts among them."""
    names = ("zrangebylex", "zrevrangebylex", "zlexcount", "zscore", "hget", "hmget")

    def count() -> int:
        told = redis.ask("INFO", "commandstats")
        return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)

    before = count()
    verb()
    return count() - before


def test_how_it_stands_costs_the_same_however_many_have_ended(store: RedisStore, redis: Redis) -> None:
    def end(n: int, end_of: Callable[[Fetched], Any]) -> None:
        store.add([a_job(identity="7") for _ in range(n)])
        store.settle([end_of(run) for run in fetch(store, limit=n)])

    end(1, failed)
    add(store, identity="7", delay=60)
    one = commands(redis, lambda: store.standing(["demo"], "7"))
    end(300, completed)
    add(store, identity="7", delay=60)
    assert commands(redis, lambda: store.standing(["demo"], "7")) == one < 10


@pytest.mark.parametrize("newest", [False, True])
def test_old_jobs_are_not_looked_at_for_those_of_lately(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, newest: bool
) -> None:
    """Places are moments of arrival: a search from a moment on begins, or ends, there."""
    store.add([a_job() for _ in range(40)])
    since = store.now() + 0.01
    while store.now() < since:
        pass
    lately = [add(store, queue="ab"[n % 2]) for n in range(3)]
    asked: list[str] = []
    reply = Shard.reply
    monkeypatch.setattr(Shard, "reply", lambda shard, title, told: asked.append(title) or reply(shard, title, told))
    with small_bites():
        for which in (Filter(created_from=since), Filter(created_from=since, task="demo")):
            found = store.find(which, newest=newest)
            assert [job.id for job in found] == (lately[::-1] if newest else lately)
            assert store.count(which) == len(lately)
    assert len(asked) <= 6  # to look at all of them takes two times seven


# ── what is left ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("away", ["delete", "prune"])
def test_what_is_gone_leaves_nothing(store: RedisStore, url: str, kept: Callable[[str], Any], away: str) -> None:
    run = running(store, identity="7", tags=("x", "y"))
    for text in (LONG, "{}", LONG):
        assert store.set_status(run.fence, text)
        assert books(url) == []
    settle(store, completed(run))
    assert books(url) == []
    assert (store.delete(Filter(identity="7")) if away == "delete" else store.prune(before=store.now() + 1)) == 1
    assert [len(kept(name)) for name in ("index", "text", "job", "fixed", "at")] == [0] * 5


@pytest.mark.parametrize("labels", [{"identity": "a\0b"}, {"tags": ("x", "a\0b")}])
def test_a_label_with_a_zero_byte_is_refused(store: RedisStore, labels: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="zero byte"):
        store.add([a_job(), a_job(**labels)])
    assert store.count(Filter()) == 0


# ── over many shards ─────────────────────────────────────────────────────────────────────────────


def test_an_identity_stands_as_all_shards_say_together(cluster: RedisCluster) -> None:
    store = begun(f"{cluster.url}?prefix=l_{next(_prefixes)}")
    queues = [f"queue-{n}" for n in range(20)]
    runs = [running(store, identity="7", queue=queue) for queue in queues]
    assert len(set(store._set_up().homes.find(run.id for run in runs).values())) > 5
    assert [job.id for job in store.find(Filter(identity="7"))] == [run.id for run in runs]
    for run in (runs[3], runs[11], runs[5]):
        store.set_status(run.fence, f'"{run.id}"')
    store.settle([completed(run) for run in runs if run is not runs[8]])
    standing = store.standing(["demo", "other"], "7")
    assert standing is not None
    assert (standing.id, standing.state, standing.busy) == (runs[-1].id, State.COMPLETED, True)
    assert (standing.status, standing.status_by) == (f'"{runs[5].id}"', runs[5].id)
    settle(store, failed(runs[8]))
    standing = store.standing(["demo", "other"], "7")
    assert standing is not None
    assert not standing.busy
    assert store.standing(["other"], "7") is None
    store.close()
