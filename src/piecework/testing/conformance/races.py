"""Operations whose verbs are sent from several threads at one moment: what is left is what one of them leaves."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from piecework.job import Answer, Fetched, Filter, State
from piecework.store import Store
from piecework.testing import FrozenClock
from piecework.testing.conformance.kit import (
    Conformance,
    failed,
    fetch,
    fetch_one,
    record,
    settle,
    state,
    together,
)
from piecework.testing.conformance.operations import (
    FIRST,
    change,
    globals_of,
    kept,
    lines,
    operation,
    started,
    stepped,
)
from piecework.testing.conformance.signals import a_signal, an_amendment, undo, waiting

SENDERS = 4


def all_at_once(call: Any) -> list[Any]:
    """What several answers are, the rarest first."""
    answers = together(*[call] * SENDERS)
    return sorted(answers, key=answers.count)


class RaceConformance(Conformance):
    """Verbs about one operation, raced with themselves and with each other."""

    @pytest.mark.parametrize("next", [State.RUNNING, State.AVAILABLE, State.COMPLETED])
    def test_of_ends_of_one_step_that_race_one_is_recorded(self, store: Store, next: State) -> None:
        """One is `ok`, the others are `already`: one line, and the changes once."""
        run = started(store, change("n", 1))
        end = stepped(run, "main/b/2", next, change("n", 2, "n=2"))
        answers = all_at_once(partial(settle, store, end))
        assert answers == [Answer.OK] + [Answer.ALREADY] * (SENDERS - 1)
        assert (lines(store, run.id), globals_of(store, run.id)) == ([(run.run, "completed", FIRST)], {"n": 2})

    def test_of_signals_that_race_a_wait_takes_one(self, store: Store) -> None:
        """The others are kept."""
        id = waiting(store)
        assert together(*[partial(store.signal, id, a_signal(f"s{n}")) for n in range(SENDERS)]) == [True] * SENDERS
        assert [s.taken_at is None for s in store.signals(id)].count(False) == 1
        assert state(store, id) is State.AVAILABLE

    def test_one_signal_that_is_sent_by_several_is_one(self, store: Store) -> None:
        """By its id."""
        id = waiting(store)
        assert all_at_once(lambda: store.signal(id, a_signal("s1"))) == [True] * SENDERS
        assert [s.taken_at is None for s in store.signals(id)] == [False]

    def test_a_signal_and_the_end_of_its_time_are_not_both_heard(self, store: Store, clock: FrozenClock) -> None:
        """Either the run has the signal, or its time is over, and the signal is kept."""
        id = waiting(store, timeout=60.0)
        clock.advance(60.0)
        found, _ = together(partial(fetch, store), partial(store.signal, id, a_signal("s1", payload=1)))
        (run,) = found or fetch(store)
        heard = run.operation is not None and run.operation.received is not None
        assert (store.signals(id)[0].taken_at is not None) is heard
        assert operation(store, id).received == ("1" if heard else None)

    def test_a_signal_that_comes_when_the_time_is_over_is_kept(self, store: Store, clock: FrozenClock) -> None:
        """Whoever has been told that nothing came goes another way."""
        id = waiting(store, timeout=60.0)
        clock.advance(60.0)
        run = fetch_one(store)
        assert run.operation is not None
        store.signal(id, a_signal("s1"))
        assert (run.operation.received, operation(store, id).received) == (None, None)
        assert store.signals(id)[0].taken_at is None

    def test_of_moves_from_one_place_that_race_one_is_made(self, store: Store) -> None:
        """The others were made for a place where it is not any more."""
        id = waiting(store)
        moves = [an_amendment(f"a{n}", f"main/c/{n + 5}") for n in range(SENDERS)]
        answers = together(*[partial(store.amend, id, "main/b/2", move) for move in moves])
        assert sorted(answers, key=answers.count) == [Answer.OK] + [Answer.STALE] * (SENDERS - 1)
        (made,) = store.amendments(id)
        assert record(store, id).cursor == made.cursor == moves[answers.index(Answer.OK)].cursor

    def test_one_amendment_that_is_sent_by_several_is_one(self, store: Store) -> None:
        """By its id."""
        id = waiting(store)
        answers = all_at_once(lambda: store.amend(id, "main/b/2", an_amendment(changes=(change("n", 7),))))
        assert answers == [Answer.OK] + [Answer.ALREADY] * (SENDERS - 1)
        assert [line.what for line in store.amendments(id)] == ["edited"]

    @pytest.mark.parametrize("what", ["undoing", "cancelled", "retried", "resumed"])
    def test_what_several_ask_for_at_one_moment_is_done_once(self, store: Store, what: str) -> None:
        """One of them counts it, and there is one line."""
        run = kept(store, started(store))
        only = Filter(ids=(run.id,))
        settle(store, failed(run) if what == "retried" else stepped(run, "main/c/3", State.AVAILABLE))
        if what == "resumed":
            store.cancel(only, reason="x")
        calls = {
            "undoing": lambda: undo(store, run.id),
            "cancelled": lambda: store.cancel(only, reason="no", by="ann"),
            "retried": lambda: store.retry(only, by="ann"),
            "resumed": lambda: store.retry(only, resume=True, by="ann"),
        }
        assert sum(together(*[calls[what]] * SENDERS)) == 1
        assert [line.what for line in store.amendments(run.id)] == [what]
        assert state(store, run.id) is (State.CANCELLED if what == "cancelled" else State.AVAILABLE)

    def test_the_end_of_the_last_step_and_a_wish_to_undo_are_not_both_the_last_word(self, store: Store) -> None:
        """Either it has completed, and is left; or that step is recorded, and it is to be undone."""
        run = started(store)
        end = stepped(run, FIRST, State.COMPLETED, change("n", 1))
        asked, answer = together(partial(undo, store, run.id), partial(settle, store, end))
        assert (answer, lines(store, run.id)) == (Answer.OK, [(run.run, "completed", FIRST)])
        assert state(store, run.id) is (State.AVAILABLE if asked else State.COMPLETED)
        assert (operation(store, run.id).ending is not None) is bool(asked)

    def test_what_is_pruned_by_several_is_counted_once(self, store: Store, clock: FrozenClock) -> None:
        """And nothing of it is left."""
        run: Fetched = started(store, change("n", 1, "n=1"))
        settle(store, stepped(run, FIRST, State.COMPLETED))
        clock.advance(10.0)
        assert sum(together(*[lambda: store.prune(before=clock.now())] * SENDERS)) == 1
        assert (store.get([run.id]), store.operations([run.id]), store.plan("d1")) == ([], [], None)
