"""The way of bytes that most jobs take on Redis: it is taken, and comes to the same rows as the careful one."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis as Driver
from tests.redis_servers import Redis

from piecework.job import Answer, Fetched, State
from piecework.outcome import Settlement
from piecework.store import Store
from piecework.store.redis.shard import unpack
from piecework.testing.conformance.kit import (
    LEAVES,
    a_job,
    a_session,
    add_continuation,
    batch,
    ended,
    fetch,
    record,
    tally,
)

N = 40


@pytest.fixture
def shelf() -> str:
    return "redis"


@pytest.fixture(autouse=True)
def session(store: Store) -> None:
    store.enlist(a_session("w"))


def good_end(run: Fetched, result: str | None) -> Settlement:
    """As a worker says it: the run that came to its end was an attempt, too."""
    return ended(run, State.COMPLETED, attempt=run.attempt + 1, result=result)


def rows(url: str, key: str) -> dict[str, Any]:
    """What is stored under one of the store's keys, by id of the job."""
    prefix = url.partition("prefix=")[2]
    with Driver.from_url(url.partition("?")[0]) as server:
        ids = {place: id.decode() for id, place in server.hgetall(f"{prefix}:{{{prefix}.0}}:at").items()}
        return {ids[place]: unpack(row) for place, row in server.hgetall(f"{prefix}:{{{prefix}.0}}:{key}").items()}


def reads(server: Driver, verb: Any) -> int:
    """How many times rows were read in a call."""

    def calls() -> int:
        return int(server.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0))

    before = calls()
    verb()
    return calls() - before


@pytest.mark.parametrize("in_batch", [False, True], ids=["plain jobs", "pieces"])
@pytest.mark.parametrize("result", [None, '"short"', f'"{"x" * 2000}"'], ids=["nothing", "short", "long"])
def test_both_ways_come_to_the_same_rows(store: Store, store_url: str, in_batch: bool, result: str | None) -> None:
    """The same settlement twice in one call is looked at with care."""
    place: dict[str, Any] = {"batch": add_continuation(store), "queue": LEAVES} if in_batch else {"queue": LEAVES}
    store.add([a_job(f"j{n}", ordinal=n if in_batch else None, **place) for n in range(2)])
    quick, careful = fetch(store, 2, queue=LEAVES)
    began = rows(store_url, "job")
    assert began[quick.id][:8] == began[careful.id][:8]
    assert store.settle([good_end(quick, result)]) == [Answer.OK]
    assert store.settle([good_end(careful, result)] * 2) == [Answer.OK, Answer.ALREADY]
    found = rows(store_url, "job")
    if in_batch:
        assert tally(store, place["batch"]) == (0, 2, 0, 0)
        assert found[quick.id][:8] == found[careful.id][:8]
        assert found[quick.id][9:] == found[careful.id][9:]  # without the ordinals, which differ
    else:
        assert found[quick.id] == found[careful.id]
    assert record(store, quick.id).result == result


@pytest.mark.parametrize("in_batch", [False, True], ids=["plain jobs", "pieces"])
def test_most_jobs_are_read_together(store: Store, redis: Redis, in_batch: bool) -> None:
    """Were the way of bytes not taken, each job would be read by itself, and nobody would notice but by the speed."""
    place: dict[str, Any] = {"batch": add_continuation(store), "queue": LEAVES} if in_batch else {"queue": LEAVES}
    store.add([a_job(ordinal=n if in_batch else None, **place) for n in range(N)])
    with Driver.from_url(redis.url) as server:
        runs: list[Fetched] = []
        assert reads(server, lambda: runs.extend(fetch(store, N, queue=LEAVES))) < 5
        assert reads(server, lambda: store.settle([good_end(run, None) for run in runs])) < 5
    if in_batch:
        assert batch(store, place["batch"]).completed == N


def test_the_last_piece_on_the_quick_way_releases_what_waits(store: Store) -> None:
    id = add_continuation(store)
    store.add([a_job(queue=LEAVES, batch=id, ordinal=n) for n in range(3)])
    assert store.seal(id)
    assert set(store.settle([good_end(run, None) for run in fetch(store, 3, queue=LEAVES)])) == {Answer.OK}
    assert record(store, id).state is State.AVAILABLE
