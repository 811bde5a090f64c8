"""The contract on the other kinds of server that the shelf on Redis is for: Valkey, and a Cluster of six nodes."""

from __future__ import annotations

import pytest
from tests.redis_kinds import cluster_kind

from piecework.errors import UsageError
from piecework.job import NewBatch
from piecework.store import Store
from piecework.testing.conformance import StoreConformance
from piecework.testing.conformance.kit import a_job, add, add_continuation, everything, fetch_one


class TestValkey(StoreConformance):
    """One Valkey."""

    @pytest.fixture
    def shelf(self) -> str:
        return "valkey"


class TestCluster(StoreConformance):
    """Several shards on three masters: what a Cluster cannot keep is said here."""

    @pytest.fixture
    def shelf(self) -> str:
        return cluster_kind()

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
