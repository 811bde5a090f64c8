"""A large call of `add` on Redis goes in bites, and is all or none all the same, wherever it breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis as driver
from support import books
from tests.redis_servers import Redis

from piecework.errors import StoreUnavailable, UsageError
from piecework.job import Filter, NewBatch, NewJob, State
from piecework.store import Store
from piecework.store.redis import enqueue
from piecework.store.redis.shard import Shard
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import EVERYTHING, a_job, a_session, assert_sound, fetch, together

BITE = 4
N = 18
PER_SCRIPT = {"stage": 5, "stage_whole": 1, "unstage": 5}  # how often each is sent for N plain jobs


@pytest.fixture
def shelf() -> str:
    return "redis"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueue, "BITE", BITE)
    monkeypatch.setattr("piecework.store.redis.staging.TOGETHER", 1)


@pytest.fixture(autouse=True)
def sound(store: Store, store_url: str) -> Iterator[None]:
    store.enlist(a_session("w"))
    yield
    assert_sound(store)
    assert books(store_url) == []


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the scripts that were sent."""
    titles: list[str] = []
    run = Shard.run

    def noted(shard: Shard, title: str, *told: Any, **more: Any) -> Any:
        titles.append(title)
        return run(shard, title, *told, **more)

    monkeypatch.setattr(Shard, "run", noted)
    return titles


def break_off(monkeypatch: pytest.MonkeyPatch, title: str, nth: int, *, before: bool) -> None:
    """The n-th script of a title never comes to the server, or its answer never comes back; once."""
    run, seen = Shard.run, [0]

    def broken(shard: Shard, asked: str, *told: Any, **more: Any) -> Any:
        seen[0] += asked == title
        if seen[0] != nth or asked != title:
            return run(shard, asked, *told, **more)
        monkeypatch.setattr(Shard, "run", run)
        if not before:
            run(shard, asked, *told, **more)
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(Shard, "run", broken)


def plain(n: int = N) -> list[NewJob]:
    return [a_job(f"j{k}") for k in range(n)]


def stored(store: Store) -> list[str]:
    return [job.id for job in store.find(EVERYTHING, limit=1000)]


def test_a_large_call_is_stored_in_bites_as_one_script_would(store: Store, clock: FrozenClock, sent: list[str]) -> None:
    jobs = plain()
    assert store.add(jobs) == [job.id for job in jobs]
    assert {title: sent.count(title) for title in sent} == PER_SCRIPT
    found = store.find(EVERYTHING, limit=N)
    assert [(job.id, job.created_at) for job in found] == [(job.id, clock.now()) for job in jobs]
    assert [run.id for run in fetch(store, N)] == [job.id for job in jobs]


def test_a_call_of_one_bite_is_one_script(store: Store, sent: list[str]) -> None:
    store.add(plain(BITE))
    assert sent == ["add"]


def test_jobs_that_are_found_by_much_are_more_work_than_plain_ones(store: Store, sent: list[str]) -> None:
    store.add([a_job(f"j{n}", key=f"k{n}", tags=("a", "b")) for n in range(3)])
    assert sent.count("unstage") == 3


def test_delays_count_from_the_moment_of_the_call(
    store: Store, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, "unstage", 1, before=True)
    at = clock.now()
    with pytest.raises(StoreUnavailable):
        store.add([a_job(f"j{n}", delay=60.0) for n in range(N)])
    clock.advance(30)
    store.repair()
    assert {(job.created_at, job.run_at) for job in store.find(EVERYTHING, limit=N)} == {(at, at + 60.0)}


def test_whose_key_is_carried_by_another_is_answered_with_that_ones_id(store: Store) -> None:
    store.add([a_job("held", key="k0")])
    jobs = [a_job(f"j{n}", key=f"k{n % 4}") for n in range(8)]
    answers = ["held", "j1", "j2", "j3"] * 2
    assert store.add(jobs) == answers
    assert store.add(jobs) == answers
    assert stored(store) == ["held", "j1", "j2", "j3"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("nth", [1, 3, 5])
def test_a_call_that_breaks_off_before_all_of_it_is_there_leaves_nothing_and_goes_by_itself(
    store: Store, redis: Redis, store_url: str, monkeypatch: pytest.MonkeyPatch, nth: int, before: bool
) -> None:
    break_off(monkeypatch, "stage", nth, before=before)
    with pytest.raises(StoreUnavailable):
        store.add(plain())
    store.repair()
    assert (stored(store), store.counts()) == ([], {})
    with driver.Redis.from_url(redis.url) as server:
        left = list(server.scan_iter(f"{store_url.partition('prefix=')[2]}:*:call:*"))
        assert len(left) == (nth > 1 or not before)
        assert all(0 < server.ttl(key) <= 120 for key in left)
    assert store.add(plain()) == [f"j{n}" for n in range(N)]
    assert stored(store) == [f"j{n}" for n in range(N)]


@pytest.mark.parametrize(("title", "nth", "before"), [
    ("stage_whole", 1, False), ("unstage", 1, True), ("unstage", 1, False), ("unstage", 3, True), ("unstage", 5, False),
])  # fmt: skip
@pytest.mark.parametrize("goes_on", ["the caller", "another"])
def test_a_call_that_breaks_off_later_is_stored_as_a_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, title: str, nth: int, before: bool, goes_on: str
) -> None:
    jobs = [a_job(f"j{n}", key=f"k{n % 6}") for n in range(9)]
    answers = [f"j{n % 6}" for n in range(9)]
    break_off(monkeypatch, title, nth, before=before)
    with pytest.raises(StoreUnavailable):
        store.add(jobs)
    if goes_on == "another":
        store.repair()
        assert stored(store) == answers[:6]
    assert store.add(jobs) == answers
    assert stored(store) == answers[:6]


def test_a_call_whose_first_bites_went_by_their_age_brings_them_again(
    store: Store, redis: Redis, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, aged = Shard.run, []

    def old(shard: Shard, title: str, *told: Any, **more: Any) -> Any:
        if title == "stage_whole" and not aged:
            with driver.Redis.from_url(redis.url) as server:
                aged.extend(server.scan_iter(f"{store_url.partition('prefix=')[2]}:*:call:*"))
                server.delete(*aged)
        return run(shard, title, *told, **more)

    monkeypatch.setattr(Shard, "run", old)
    assert store.add(plain()) == stored(store) == [f"j{n}" for n in range(N)]
    assert len(aged) == 1


def test_a_key_that_somebody_deleted_is_not_waited_for(
    store: Store, redis: Redis, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, "unstage", 2, before=True)
    with pytest.raises(StoreUnavailable):
        store.add(plain())
    with driver.Redis.from_url(redis.url) as server:
        server.delete(*server.scan_iter(f"{store_url.partition('prefix=')[2]}:*:call:*"))
    store.repair()
    assert stored(store) == [f"j{n}" for n in range(BITE)]


def test_the_same_call_by_several_at_one_moment_stores_it_once(store: Store) -> None:
    told = together(*(lambda: store.add(plain()) for _ in range(4)))
    assert told == [[f"j{n}" for n in range(N)]] * 4
    assert stored(store) == [f"j{n}" for n in range(N)]


def test_what_cannot_be_stored_is_refused_before_anything_is_kept(store: Store, sent: list[str]) -> None:
    with pytest.raises(UsageError, match="priority"):
        store.add([*plain(), a_job("last", priority=2**31)])
    assert sent == []


def test_pieces_are_added_by_one_script_as_long_as_that_is_not_too_much(
    store: Store, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [a_job(f"p{n}", batch="b", ordinal=n) for n in range(N)]
    store.add(pieces, batch=NewBatch("b"))
    assert sent == ["add"]
    monkeypatch.setattr(enqueue, "MOST", N - 1)
    with pytest.raises(UsageError, match="18 pieces are too many for one call on Redis"):
        store.add(pieces, batch=NewBatch("b"))
    assert store.count(Filter(state=State.AVAILABLE)) == N


def test_with_its_memory_full_nothing_new_is_brought_and_what_was_is_stored(
    store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(monkeypatch, "unstage", 2, before=True)
    with pytest.raises(StoreUnavailable):
        store.add(plain())
    with driver.Redis.from_url(redis.url) as server:
        before = server.config_get("maxmemory")["maxmemory"]
        server.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable, match="out of memory: nothing was stored"):
                store.add([a_job() for _ in range(N)])
            store.repair()
        finally:
            server.config_set("maxmemory", before)
    assert stored(store) == [f"j{n}" for n in range(N)]


def test_bites_that_are_thrown_away_as_fast_as_they_come_are_not_brought_for_ever(
    store: Store, redis: Redis, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a server whose memory is full, and whose policy is volatile-…: they have a time to live."""
    run = Shard.run

    def evicted(shard: Shard, title: str, *told: Any, **more: Any) -> Any:
        if title == "stage_whole":
            with driver.Redis.from_url(redis.url) as server:
                server.delete(*server.scan_iter("*:call:*"))
        return run(shard, title, *told, **more)

    monkeypatch.setattr(Shard, "run", evicted)
    with pytest.raises(StoreUnavailable, match="nothing was stored.*maxmemory-policy is volatile-"):
        store.add(plain())
    assert sent.count("stage_whole") == 3
    assert stored(store) == []
