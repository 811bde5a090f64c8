"""The contract on the other kinds of server that the shelf on Redis is for: Valkey, and a Cluster of six nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from tests.redis_servers import Redis, RedisCluster, valkey_program

from piecework.errors import UsageError
from piecework.job import NewBatch
from piecework.store import Store, open_store
from piecework.testing import FrozenClock
from piecework.testing.conformance import StoreConformance
from piecework.testing.conformance.kit import a_job, add, add_continuation, everything, fetch_one

_prefixes = itertools.count(1)


def opened(url: str, clock: FrozenClock) -> Iterator[Store]:
    store = open_store(f"{url}{'&' if '?' in url else '?'}prefix=k_{next(_prefixes)}", clock=clock)
    store.migrate()
    yield store
    store.close()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Redis]:
    server = Redis(valkey_program())
    try:
        yield server.start()
    finally:
        server.stop()


class TestValkey(StoreConformance):
    """One Valkey."""

    @pytest.fixture
    def store(self, valkey: Redis, clock: FrozenClock) -> Iterator[Store]:
        yield from opened(f"valkey://127.0.0.1:{valkey.port}", clock)


class TestCluster(StoreConformance):
    """Several shards on three masters: what a Cluster cannot keep is said here."""

    @pytest.fixture
    def store(self, cluster: RedisCluster, clock: FrozenClock) -> Iterator[Store]:
        yield from opened(f"{cluster.url}?shards=5", clock)

    def test_add_keeps_the_order_of_jobs_that_differ(self, store: Store) -> None:
        """The order of a call is the order of arrival, whatever the jobs are; unique keys have places of their own."""
        jobs = [a_job(task=f"t{n % 3}", queue=f"q{n % 2}") for n in range(24)]
        store.add(jobs)
        assert [job.id for job in everything(store)] == [job.id for job in jobs]

    def test_a_piece_whose_unique_key_is_taken_is_not_stored(self, store: Store) -> None:
        """A piece cannot have a unique key: that is kept where it belongs, and the piece where its tree is."""
        batch = add_continuation(store)
        with pytest.raises(UsageError, match="has a unique key of its own"):
            store.add([a_job(batch=batch, ordinal=0), a_job(batch=batch, ordinal=1, key="k")])
        assert total(store, batch) == 0

    def test_a_splitters_piece_whose_unique_key_is_taken_is_not_stored(self, store: Store) -> None:
        """Not a splitter's either."""
        add(store)
        run = fetch_one(store)
        batch = NewBatch(id=run.id, then=run.id)
        with pytest.raises(UsageError, match="has a unique key of its own"):
            store.add([a_job(batch=run.id, ordinal=0, key="k")], batch=batch, fence=run.fence)
        assert store.batch(run.id) is None


def total(store: Store, id: str) -> int:
    batch = store.batch(id)
    assert batch is not None
    return batch.total
