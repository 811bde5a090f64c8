"""The shelf on Redis beside its contract: who is told of new work, who has which connection, and whose keys are whose."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest
import redis as driver
from tests.redis_servers import Redis, RedisCluster
from waiting import Waiter, quiet

from piecework.errors import SchemaOutdated, StoreError, StoreUnavailable, WithinNotSupported
from piecework.job import Filter
from piecework.store.redis.store import VERSION, RedisStore
from piecework.testing.conformance import kit
from piecework.testing.conformance.kit import (
    a_claim,
    a_job,
    add,
    assert_sound,
    at_work,
    completed,
    everything,
    fetch,
    fetch_one,
    settle,
    together,
)

_prefixes = itertools.count(1)


@pytest.fixture
def url(redis: Redis) -> str:
    return f"{redis.url}?prefix=r_{next(_prefixes)}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    with at_work(RedisStore(url), sound=False) as store:
        yield store


# ── hints ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again by the clock while a test is at it: what wakes is a hint."""
    monkeypatch.setattr("piecework.store.redis.ear.AGAIN", 60.0)


@pytest.mark.usefixtures("seldom")
def test_an_addition_elsewhere_wakes_who_sleeps(store: RedisStore, url: str) -> None:
    other = RedisStore(url)
    waiter = Waiter(store)
    add(other)
    assert waiter.ended() is True
    other.close()


@pytest.mark.usefixtures("seldom")
def test_two_threads_that_sleep_are_both_woken(store: RedisStore) -> None:
    waiters = [Waiter(store), Waiter(store)]
    add(store)
    assert [waiter.ended() for waiter in waiters] == [True, True]


@pytest.mark.usefixtures("seldom")
def test_whatever_makes_a_job_available_wakes_who_sleeps(store: RedisStore) -> None:
    """Not only an addition: an end that releases, a queue that goes on, a job that comes back."""
    kit.split(store, 1)
    run = fetch_one(store, queue=kit.LEAVES)
    waiter = Waiter(store)
    settle(store, completed(run))
    assert waiter.ended() is True
    store.pause("default")
    waiter = Waiter(store)
    store.pause("default", False)
    assert waiter.ended() is True
    fetch_one(store)
    waiter = Waiter(store)
    assert store.bury("w") == 1
    assert waiter.ended() is True


@pytest.mark.usefixtures("seldom")
def test_on_a_cluster_a_job_in_any_shard_wakes_who_sleeps(cluster: RedisCluster) -> None:
    with at_work(RedisStore(f"{cluster.url}?prefix=r_{next(_prefixes)}"), sound=False) as store:
        for n in range(6):
            waiter = Waiter(store)
            add(store, queue=f"q{n}")
            assert waiter.ended() is True


def test_a_wait_ends_when_the_store_is_closed(store: RedisStore) -> None:
    waiter = Waiter(store)
    store.close()
    assert waiter.ended() is False


def test_while_nobody_sleeps_nobody_is_told(store: RedisStore, redis: Redis) -> None:
    with driver.Redis(port=redis.port, protocol=2) as con, con.pubsub(ignore_subscribe_messages=True) as listens:
        channel = store._set_up().shards[0].keys[-1]
        listens.subscribe(channel)
        for _ in range(50):
            add(store)
        con.publish(channel, b"over")
        heard = [
            message for message in iter(lambda: listens.get_message(timeout=5), None) if message["type"] == "message"
        ]
        while not heard:
            heard += [message for message in [listens.get_message(timeout=5)] if message]
        assert [message["data"] for message in heard] == [b"over"]


def test_a_hundred_additions_wake_a_sleeper_once(store: RedisStore, redis: Redis) -> None:
    """It has to lie down again to be told again."""
    spread = store._set_up()
    store._lie_down("somebody")
    with driver.Redis(port=redis.port, protocol=2) as con, con.pubsub(ignore_subscribe_messages=True) as listens:
        listens.subscribe(spread.shards[0].keys[-1])
        for _ in range(100):
            add(store)
        con.publish(spread.shards[0].keys[-1], b"over")
        heard: list[bytes] = []
        while b"over" not in heard:
            heard += [message["data"] for message in [listens.get_message(timeout=5)] if message]
        assert heard == [b"", b"over"]


def test_a_user_who_may_not_give_hints_adds_all_the_same(store: RedisStore, redis: Redis, url: str) -> None:
    """A new user of Redis 7 may use no channel unless that is said. What the script wrote was not undone by the refusal."""
    redis.ask("ACL", "SETUSER", "mute", "on", ">word", "~*", "resetchannels", "+@all")
    mute = RedisStore(url.replace("redis://", "redis://mute:word@"))
    store._lie_down("somebody")
    try:
        added = add(mute)
        assert [record.id for record in everything(store)] == [added]
    finally:
        mute.close()
        redis.ask("ACL", "DELUSER", "mute")


def test_the_rights_that_are_said_to_be_needed_are_enough(redis: Redis, url: str) -> None:
    def reach(rights: list[str]) -> RedisStore:
        redis.ask("ACL", "SETUSER", "poor", "reset", "on", ">word", "~*", "&*", *rights)
        return RedisStore(url.replace("redis://", "redis://poor:word@"))

    poor = reach(["+@scripting", "+@read", "+@write", "+info"])
    try:
        with pytest.raises(StoreError, match="does not let this user do that") as refused:
            add(poor)
        poor.close()
        said = re.search(r"commands of scripts \((.+?)\)", str(refused.value))
        assert said is not None
        poor = reach(said[1].split(", "))
        add(poor)
        poor.wait(0.1)
        assert len(everything(poor)) == 1
    finally:
        poor.close()
        redis.ask("ACL", "DELUSER", "poor")


def test_on_a_cluster_two_rights_more_are_enough(cluster: RedisCluster) -> None:
    rights = [
        "+@scripting",
        "+@read",
        "+@write",
        "+time",
        "+info",
        "+config|get",
        "+subscribe",
        "+publish",
        "+cluster|slots",
        "+command",
    ]
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "poor", "reset", "on", ">word", "~*", "&*", *rights)
    try:
        poor = RedisStore(cluster.url.replace("://", "://poor:word@") + f"?prefix=r_{next(_prefixes)}")
        with at_work(poor, sound=False) as store:
            job = add(store)
            store.wait(0.1)
            assert [record.id for record in everything(store)] == [job]
    finally:
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", "poor")


def test_without_hints_it_looks_by_the_clock(url: str) -> None:
    store = RedisStore(f"{url}&hints=no")
    store.migrate()
    assert store.wait(0.05) is True  # the first call has nothing to compare with
    assert store.wait(0.05) is False
    assert store._ear._con is None
    store.close()


def test_who_waits_for_a_hint_says_that_the_server_went_away_and_hears_again_when_it_is_back() -> None:
    server = Redis().start()
    with at_work(RedisStore(server.url), sound=False) as store:
        waiter = Waiter(store)
        server.end()
        assert isinstance(waiter.ended(), StoreUnavailable)
        server.launch()
        waiter = Waiter(store)
        add(store)
        assert waiter.ended() is True
    server.stop()


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def test_the_number_of_connections_does_not_grow_with_the_threads() -> None:
    server = Redis().start()
    with at_work(RedisStore(f"{server.url}?connections=2"), sound=False) as store:
        together(*(lambda: [add(store) for _ in range(10)] for _ in range(12)))
        quiet(store)
        asked = 1  # by this test, to know it
        assert server.ask("INFO", "clients")["connected_clients"] - asked <= 2 + 1
        assert len(everything(store)) == 120
    server.stop()


def test_a_child_of_a_fork_has_a_store_of_its_own(store: RedisStore) -> None:
    id = add(store)
    quiet(store)
    child = os.fork()
    if child == 0:
        try:
            add(store)
            os._exit(0 if store.wait(5.0) and store.get([id]) else 1)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(everything(store)) == 2
    assert len(fetch(store, 5)) == 2
    assert_sound(store)


def test_an_idle_fetch_writes_nothing(store: RedisStore, redis: Redis) -> None:
    """Neither to the log, nor to replicas."""
    store.fetch(a_claim())
    before = redis.ask("INFO", "persistence")["aof_current_size"]
    for _ in range(20):
        assert store.fetch(a_claim()) == []
    assert redis.ask("INFO", "persistence")["aof_current_size"] == before


# ── whose keys are whose ─────────────────────────────────────────────────────────────────────────


def test_two_prefixes_on_one_server_know_nothing_of_each_other(store: RedisStore, redis: Redis) -> None:
    with at_work(RedisStore(f"{redis.url}?prefix=r_{next(_prefixes)}"), sound=False) as other:
        add(store, key="k")
        add(other, key="k")
        assert len(everything(store)) == len(everything(other)) == 1


def test_nothing_is_made_by_looking(redis: Redis, url: str) -> None:
    store = RedisStore(url)
    assert not store.is_set_up()
    assert not redis.ask("KEYS", f"{url.partition('prefix=')[2]}:*")
    store.migrate()
    assert store.is_set_up()
    assert store.migrate() == []
    store.close()


def test_a_store_of_another_version_is_left_alone(url: str, redis: Redis) -> None:
    store = RedisStore(url)
    assert store.migrate() == ["0001_shards"]
    redis.ask("HSET", store._set_up().shards[0].keys[0], "version", str(VERSION + 1))
    other = RedisStore(url)
    with pytest.raises(
        SchemaOutdated, match=f"has version {VERSION + 1}, newer than this version of piecework knows .{VERSION}."
    ):
        other.add([a_job()])
    store.close()
    other.close()


def test_a_store_that_was_emptied_is_set_up_again_by_who_comes(url: str, redis: Redis) -> None:
    store = RedisStore(url)
    add(store)
    for key in redis.ask("KEYS", f"{url.partition('prefix=')[2]}:*"):
        redis.ask("DEL", key)
    assert everything(store) == []
    other = RedisStore(url)
    add(other)
    assert len(everything(store)) == 1
    store.close()
    other.close()


async def test_there_is_no_callers_transaction(store: RedisStore) -> None:
    with pytest.raises(WithinNotSupported, match="after you have committed"):
        store.add([a_job()], within=object())
    with pytest.raises(WithinNotSupported, match="after you have committed"):
        store.transaction()
    assert everything(store) == []


def test_where_memory_is_full_a_new_process_can_begin(store: RedisStore, redis: Redis, url: str) -> None:
    """A worker that was started again works off what is there, and somebody who looks in may make room."""
    job = add(store)
    redis.ask("CONFIG", "SET", "maxmemory", "1mb")
    fresh = RedisStore(url)
    try:
        assert fresh.get(job) is not None
        settle(fresh, completed(fetch_one(fresh)))
        assert fresh.prune(before=2 * fresh.now()) == 1
    finally:
        redis.ask("CONFIG", "SET", "maxmemory", "0")
        fresh.close()


class SafeText(str):
    """As templates and web frameworks have it."""


def test_text_of_a_class_of_its_own_is_asked_for_as_what_it_says(store: RedisStore) -> None:
    job = add(store, key="k", queue="mail")
    for which in (Filter(key=SafeText("k")), Filter(queue=SafeText("mail")), Filter(ids=(SafeText(job),))):
        assert [record.id for record in everything(store, which)] == [job]
    store.pause(SafeText("mail"))
    assert fetch(store) == []
