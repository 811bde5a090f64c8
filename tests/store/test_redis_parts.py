"""Distributed jobs on a Redis whose memory is full, and whose scripts were flushed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis as driver
from tests.redis_servers import Redis

from piecework.distributed import DistributedJob
from piecework.errors import StoreUnavailable
from piecework.job import NewJob
from piecework.store import Store


@pytest.fixture
def shelf() -> str:
    return "redis"


@pytest.fixture
def server(redis: Redis) -> Iterator[Any]:
    """The server itself, for a test that sets its memory; afterwards that is as it was."""
    with driver.Redis.from_url(redis.url) as connection:
        before = connection.config_get("maxmemory")["maxmemory"]
        yield connection
        connection.config_set("maxmemory", before)


def test_with_its_memory_full_parts_end_and_what_follows_is_stored_and_pushes_are_refused(
    store: Store, server: Any
) -> None:
    job = DistributedJob(store.parts, "t", then=NewJob(id="then", task="t", args="{}"))
    job.push_all(["a", "b"])
    server.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="out of memory: nothing was stored"):
        DistributedJob(store.parts, "u").push_all(["a"])
    assert store.parts.read("u") is None
    assert job.stop("why")
    assert job.resume()
    assert [bool(job.done(part)) for part in ("a", "b")] == [False, True]
    assert job.then_id is not None
    assert len(store.get([job.then_id])) == 1


def test_scripts_that_were_flushed_are_sent_again(store: Store, server: Any) -> None:
    job = DistributedJob(store.parts, "t")
    for part in ("a", "b"):
        server.script_flush()
        assert [name for _, name in job.push_each([part])] == ["0"]
        server.script_flush()
        assert job.done("0")
        server.script_flush()
        assert job.forget()
