"""What waiting, closing and the schema promise."""

from __future__ import annotations

import threading

from piecework.job import State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    Conformance,
    a_claim,
    add,
    completed,
    fetch,
    fetch_one,
    running,
    settle,
    state,
    together,
)


class WaitConformance(Conformance):
    """Hints, and when to look again."""

    def test_wait_ends_when_its_time_is_over(self, store: Store) -> None:
        """Sleeps until the time is over; says which. It is a hint: it may say that something changed."""
        assert store.wait(0.0) in (True, False)
        assert store.wait(0.01) in (True, False)

    def test_wait_ends_when_something_changed(self, store: Store) -> None:
        """Sleeps until something may have changed."""
        woken = threading.Event()

        def sleeper() -> None:
            assert store.wait(60)
            woken.set()

        thread = threading.Thread(target=sleeper)
        thread.start()
        while not woken.is_set() and thread.is_alive():  # it may not have fallen asleep yet
            add(store)
            woken.wait(0.02)
        thread.join()
        assert woken.is_set()

    def test_many_may_wait_at_once(self, store: Store) -> None:
        """All verbs are thread-safe."""
        together(*[lambda: store.wait(0.02) for _ in range(4)])

    def test_next_due_is_none_when_nothing_is_to_come(self, store: Store) -> None:
        """None when there is none."""
        assert store.next_due() is None
        add(store)
        assert store.next_due() is None

    def test_next_due_counts_the_seconds(self, store: Store, clock: FrozenClock) -> None:
        """Seconds until the next job that is not due yet will be."""
        add(store, delay=30)
        add(store, delay=10)
        assert store.next_due() == 10
        clock.advance(4)
        assert store.next_due() == 6

    def test_next_due_looks_past_what_is_due(self, store: Store, clock: FrozenClock) -> None:
        """0.0 where the time of one came, and no fetch has looked since; once one has, the next job counts."""
        add(store, delay=10)
        add(store, delay=30)
        clock.advance(10)
        assert store.next_due() == 0.0
        fetch_one(store)
        assert store.next_due() == 20
        clock.advance(20)
        fetch_one(store)
        assert store.next_due() is None


class CloseConformance(Conformance):
    """Connections come and go."""

    def test_a_closed_store_opens_again(self, store: Store) -> None:
        """A closed store opens again at its next use, and has forgotten nothing."""
        id = add(store)
        store.close()
        assert state(store, id) is State.AVAILABLE
        store.close()
        run = fetch_one(store)
        store.close()
        settle(store, completed(run))
        assert state(store, id) is State.COMPLETED

    def test_close_sent_twice(self, store: Store) -> None:
        """Lets go of every connection; there may be none."""
        store.close()
        store.close()
        assert fetch(store) == []

    def test_a_claim_is_remembered_over_a_close(self, store: Store) -> None:
        """A claim that was answered before gets the same jobs again, over another connection, too."""
        add(store)
        claim = a_claim()
        first = store.fetch(claim)
        store.close()
        assert store.fetch(claim) == first


class SchemaConformance(Conformance):
    """Versions of the store."""

    def test_migrate_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Each migration is applied once: there is none left to apply."""
        run = running(store)
        assert store.migrate() == []
        assert state(store, run.id) is State.RUNNING

    def test_migrations_may_race(self, store: Store) -> None:
        """Two processes may race; each migration is applied once."""
        assert together(*[store.migrate for _ in range(4)]) == [[], [], [], []]

    def test_a_migrated_store_is_set_up(self, store: Store) -> None:
        """There are tables to be read."""
        assert store.is_set_up() is True
        store.close()
        assert store.is_set_up() is True

    def test_examine_speaks(self, store: Store) -> None:
        """Says what is right and wrong with the store; nothing is wrong with one that was just migrated."""
        findings = store.examine()
        assert findings
        assert {finding.level for finding in findings} <= {"ok", "warning"}
        assert all(finding.subject and finding.message for finding in findings)

    def test_the_url_names_the_store(self, store: Store) -> None:
        """The URL says which store it is, without credentials."""
        assert ":" in store.url
        assert "@" not in store.url
