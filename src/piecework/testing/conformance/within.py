"""What `within=` promises, of stores that have it and of stores that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

from piecework.errors import LeaseLost, UsageError, WithinNotSupported
from piecework.job import Answer, NewBatch, State
from piecework.store.protocol import Store
from piecework.testing.conformance.kit import (
    LEAVES,
    Conformance,
    a_job,
    add,
    batch,
    completed,
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


class TransactionConformance(Conformance):
    """A transaction for what a run itself writes; the effect is a job here, added on its connection."""

    def test_effects_and_end_are_committed_together(self, store: Store) -> None:
        """At the end of the block everything is committed together where the run was settled."""
        id = add(store)
        run, effect = fetch_one(store), a_job()
        with store.transaction() as opened:
            store.add([effect], within=opened.connection)
            opened.settle(completed(run))
            assert (state(store, id), store.get([effect.id])) == (State.RUNNING, [])
        assert (state(store, id), state(store, effect.id)) == (State.COMPLETED, State.AVAILABLE)

    def test_the_same_settlement_sent_again_is_answered_already(self, store: Store) -> None:
        """That settlement, sent again, answers `already`; so the worker settles as ever."""
        id = add(store)
        run = fetch_one(store)
        with store.transaction() as opened:
            opened.settle(completed(run, result="1"))
        assert store.settle([completed(run, result="1")]) == [Answer.ALREADY]
        assert store.counts()[run.queue, "completed"] == 1
        assert store.get([id])[0].result == "1"

    def test_what_was_not_settled_is_rolled_back(self, store: Store) -> None:
        """And rolled back where it was not."""
        id = add(store)
        run = fetch_one(store)
        with store.transaction() as opened:
            store.add([a_job()], within=opened.connection)
        assert [job.id for job in everything(store)] == [id]
        assert store.settle([completed(run)]) == [Answer.OK]

    def test_an_exception_rolls_back_even_what_was_settled(self, store: Store) -> None:
        """All or nothing."""
        id = add(store)
        run = fetch_one(store)
        with suppress(RolledBack), store.transaction() as opened:
            store.add([a_job()], within=opened.connection)
            opened.settle(completed(run))
            raise RolledBack
        assert [job.id for job in everything(store)] == [id]
        assert state(store, id) is State.RUNNING

    def test_a_status_is_a_part_of_it(self, store: Store) -> None:
        """`set_status` is seen with the end of the run, and not at all without; raises `LeaseLost` as `settle` does."""
        id = add(store)
        run = fetch_one(store)
        with store.transaction() as opened:
            opened.set_status(run.fence, '{"n":1}')
        assert store.get([id])[0].status is None
        with store.transaction() as opened:
            opened.set_status(run.fence, '{"n":2}')
            opened.settle(completed(run))
            assert store.get([id])[0].status is None
        assert (store.get([id])[0].status, state(store, id)) == ('{"n":2}', State.COMPLETED)
        with pytest.raises(LeaseLost), store.transaction() as opened:
            opened.set_status(run.fence, "{}")

    def test_who_lost_the_job_writes_nothing(self, store: Store) -> None:
        """`settle` raises `LeaseLost` where that run does not own its job any more."""
        id = add(store)
        first = fetch_one(store)
        store.reap("w.1")
        second = fetch_one(store, worker="w.2")
        with suppress(RolledBack), store.transaction() as opened:
            store.add([a_job()], within=opened.connection)
            with pytest.raises(LeaseLost):
                opened.settle(completed(first))
            raise RolledBack
        assert [job.id for job in everything(store)] == [id]
        assert store.settle([completed(second)]) == [Answer.OK]

    def test_the_last_piece_releases_what_waits_for_it(self, store: Store) -> None:
        """As every settlement does."""
        then = a_job(state=State.WAITING)
        store.add([then], batch=NewBatch(id=then.id, then=then.id))
        store.add([a_job(queue=LEAVES, batch=then.id, ordinal=0)])
        store.seal(then.id)
        run = fetch_one(store, queue=LEAVES)
        with store.transaction() as opened:
            opened.settle(completed(run))
            assert state(store, then.id) is State.WAITING
        assert state(store, then.id) is State.AVAILABLE


class NoWithinConformance(Conformance):
    """Stores that have no caller's transaction."""

    def test_a_transaction_of_a_run_is_refused(self, store: Store) -> None:
        """A store that cannot raises `WithinNotSupported`."""
        with pytest.raises(WithinNotSupported), store.transaction():
            pass

    def test_within_is_refused(self, store: Store) -> None:
        """A store that cannot raises `WithinNotSupported`, and stores nothing."""
        with pytest.raises(WithinNotSupported):
            store.add([a_job()], within=object())
        assert fetch(store) == []
