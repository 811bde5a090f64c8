"""What `within=` promises, of stores that have it and of stores that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

from piecework.errors import UsageError, WithinNotSupported
from piecework.job import NewBatch, State
from piecework.store.protocol import Store
from piecework.testing.conformance.kit import (
    LEAVES,
    Conformance,
    a_job,
    add,
    batch,
    everything,
    fetch,
    fetch_one,
    state,
)

Transactions = Callable[[], AbstractContextManager[Any]]


class RolledBack(Exception):
    """The caller changed its mind."""


@contextmanager
def roll_back(transaction: Transactions) -> Iterator[Any]:
    """The caller's transaction, until the caller changes its mind."""
    with suppress(RolledBack), transaction() as connection:
        yield connection
        raise RolledBack


class WithinConformance(Conformance):
    """Adding jobs in the caller's own transaction.

    Needs a third fixture, `transaction`: called, it returns a context manager that enters a new transaction on a
    connection of the caller's own, gives that connection, commits at the end and rolls back on an exception.
    """

    def test_jobs_live_with_the_callers_transaction(self, store: Store, transaction: Transactions) -> None:
        """With `within`, everything is written on the caller's connection, and lives with its transaction."""
        job = a_job()
        with transaction() as connection:
            assert store.add([job], within=connection) == [job.id]
            assert everything(store) == []
        assert fetch_one(store).id == job.id

    def test_jobs_die_with_the_callers_transaction(self, store: Store, transaction: Transactions) -> None:
        """And dies with it."""
        with roll_back(transaction) as connection:
            store.add([a_job(), a_job(key="k")], within=connection)
        assert everything(store) == []
        assert [n for n in store.counts().values() if n] == []

    def test_batches_die_with_the_callers_transaction(self, store: Store, transaction: Transactions) -> None:
        """Everything: batches and their counters, too."""
        with transaction() as connection:
            then = a_job(state=State.WAITING)
            store.add([then], batch=NewBatch(id=then.id, then=then.id), within=connection)
        with roll_back(transaction) as connection:
            store.add([a_job(queue=LEAVES, batch=then.id, ordinal=0)], within=connection)
        assert batch(store, then.id).total == 0

    def test_a_unique_key_is_found_within(self, store: Store, transaction: Transactions) -> None:
        """The answer is the same as without."""
        first = add(store, key="k")
        with transaction() as connection:
            assert store.add([a_job(key="k")], within=connection) == [first]

    def test_a_refusal_leaves_the_callers_transaction_as_it_was(self, store: Store, transaction: Transactions) -> None:
        """All or none, inside the caller's transaction, which goes on."""
        good, kept = a_job(), a_job()
        with transaction() as connection:
            store.add([kept], within=connection)
            with pytest.raises(UsageError):
                store.add([good, a_job(batch="no such batch", ordinal=0)], within=connection)
        assert [job.id for job in everything(store)] == [kept.id]
        assert state(store, kept.id) is State.AVAILABLE

    def test_what_is_no_connection_is_refused(self, store: Store) -> None:
        """A store that cannot write on what it was given raises `WithinNotSupported`."""
        with pytest.raises(WithinNotSupported):
            store.add([a_job()], within=object())
        assert everything(store) == []


class NoWithinConformance(Conformance):
    """Stores that have no caller's transaction."""

    def test_within_is_refused(self, store: Store) -> None:
        """A store that cannot raises `WithinNotSupported`, and stores nothing."""
        with pytest.raises(WithinNotSupported):
            store.add([a_job()], within=object())
        assert fetch(store) == []
