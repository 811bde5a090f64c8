"""Operations that wait, go back, are moved by hand, and split."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from piecework.job import (
    Amendment,
    Answer,
    BatchState,
    Deed,
    Ending,
    ErrorInfo,
    Fetched,
    Filter,
    NewBatch,
    NewSignal,
    OnFailure,
    Route,
    State,
    Wait,
)
from piecework.outcome import Settlement
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    EVERYTHING,
    LEAVES,
    Conformance,
    a_job,
    add,
    batch,
    cancelled,
    complete_leaves,
    completed,
    ended,
    everything,
    failed,
    fetch,
    fetch_one,
    leaves,
    offer,
    parked,
    pieces_of,
    record,
    retried,
    settle,
    state,
    states,
    tally,
)
from piecework.testing.conformance.operations import (
    FIRST,
    an_operation,
    change,
    found_by,
    globals_of,
    kept,
    lines,
    operation,
    start,
    started,
    stepped,
    whole,
)

BOOM = ErrorInfo("Boom", "bad")


def waits(run: Fetched, name: str = "go", timeout: float | None = None, **fields: Any) -> Settlement:
    """A step that completed, and whose successor waits for a signal."""
    return stepped(run, "main/b/2", State.WAITING, wait=Wait(name, timeout, into="answer"), **fields)


def waiting(store: Store, name: str = "go", timeout: float | None = None, **fields: Any) -> str:
    """An operation that waits for a signal."""
    run = started(store, **fields)
    assert settle(store, waits(run, name, timeout)) is Answer.OK
    return run.id


def a_signal(id: str, name: str = "go", payload: Any = None) -> NewSignal:
    return NewSignal(id=id, name=name, payload=json.dumps(payload), by="ann")


def until_due(store: Store) -> float | None:
    """Seconds until something is due, without what arithmetic leaves."""
    seconds = store.next_due()
    return None if seconds is None else round(seconds, 3)


def an_amendment(id: str = "a1", cursor: str | None = None, **fields: Any) -> Amendment:
    return Amendment(**{"id": id, "what": "jumped" if cursor else "edited", "by": "ann", "cursor": cursor, **fields})


def undo(store: Store, id: str, **fields: Any) -> int:
    return store.cancel(Filter(ids=(id,)), **{"reason": "wrong customer", "by": "ann", "undo": True, **fields})


UNDONE = Ending(State.CANCELLED, None, "wrong customer", "ann")


class SignalConformance(Conformance):
    """`signal`, waits and their timeouts."""

    def test_an_operation_waits(self, store: Store) -> None:
        """An operation that waits for a signal is not fetched."""
        id = waiting(store)
        assert (state(store, id), record(store, id).cursor, fetch(store)) == (State.WAITING, "main/b/2", [])
        assert operation(store, id).wait == Wait("go", None, "answer")
        assert store.next_due() is None

    def test_a_signal_makes_it_available(self, store: Store, clock: FrozenClock) -> None:
        """One that waits for a signal of this name gets it, and is available at once."""
        id = waiting(store)
        clock.advance(5.0)
        assert store.signal(id, a_signal("s1", payload={"yes": True}))
        assert (state(store, id), record(store, id).run_at) == (State.AVAILABLE, clock.now())
        run = fetch_one(store)
        assert run.operation is not None
        assert run.operation.received is not None
        assert (run.operation.wait, json.loads(run.operation.received)) == (Wait("go", None, "answer"), {"yes": True})
        (kept_signal,) = store.signals(id)
        assert (kept_signal.id, kept_signal.by, kept_signal.at, kept_signal.taken_at) == (
            "s1", "ann", clock.now(), clock.now(),
        )  # fmt: skip

    def test_a_step_that_is_tried_again_has_the_signal_still(self, store: Store) -> None:
        """What it waited for is kept until the step has ended."""
        id = waiting(store)
        store.signal(id, a_signal("s1", payload=1))
        settle(store, retried(fetch_one(store)))
        run = fetch_one(store)
        assert run.operation is not None
        assert run.operation.received == "1"
        run = kept(store, run, "main/c/3")
        assert (operation(store, id).wait, operation(store, id).received) == (None, None)

    def test_an_operation_may_begin_with_a_wait(self, store: Store, clock: FrozenClock) -> None:
        told, late = (start(store, state=State.WAITING, wait=Wait("go", 10.0, delay=5.0)) for _ in range(2))
        assert (state(store, told), operation(store, told).wait) == (State.WAITING, Wait("go", 10.0, delay=5.0))
        assert fetch(store) == []
        assert store.signal(told, a_signal("s1", payload=7))
        assert fetch(store) == []
        clock.advance(5)
        run = fetch_one(store)
        assert run.operation is not None
        assert (run.id, run.operation.received) == (told, "7")
        clock.advance(5)
        run = fetch_one(store)
        assert run.operation is not None
        assert (run.id, run.operation.received) == (late, None)

    def test_or_with_the_signal_for_which_it_would_have_waited(self, store: Store, clock: FrozenClock) -> None:
        id = start(store, wait=Wait("go", 10.0), received="7", delay=60.0)
        clock.advance(30)
        assert (state(store, id), fetch(store)) == (State.AVAILABLE, [])
        clock.advance(30)
        run = fetch_one(store)
        assert run.operation is not None
        assert (run.operation.wait, run.operation.received) == (Wait("go", 10.0), "7")

    def test_the_line_of_a_step_keeps_what_it_said_of_the_way_on(self, store: Store) -> None:
        run = started(store)
        route = Route("main/b", 60.0, Wait("go", 5.0, into="answer"))
        assert settle(store, waits(run, route=route)) is Answer.OK
        assert [line.route for line in store.attempts(run.id)] == [route]
        assert [line.route for line in store.attempts(run.id, newest=True)] == [route]

    def test_a_signal_of_another_name_is_kept(self, store: Store) -> None:
        """Else it is kept for a wait to come."""
        id = waiting(store)
        assert store.signal(id, a_signal("s1", "stop"))
        assert state(store, id) is State.WAITING
        assert [(signal.name, signal.taken_at) for signal in store.signals(id)] == [("stop", None)]

    def test_a_wait_takes_the_oldest_that_was_kept(self, store: Store) -> None:
        """One that waits takes the oldest of that name that was kept, and is available at once if there is one."""
        run = started(store)
        for n in (1, 2):
            assert store.signal(run.id, a_signal(f"s{n}", payload=n))
        assert settle(store, waits(run)) is Answer.OK
        run = fetch_one(store)
        assert run.operation is not None
        assert run.operation.received == "1"
        settle(store, stepped(run, "main/c/3", State.WAITING, wait=Wait("go")))
        assert operation(store, run.id).received == "2"
        run = fetch_one(store)
        settle(store, stepped(run, "main/d/4", State.WAITING, wait=Wait("go")))
        assert state(store, run.id) is State.WAITING

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ({"delay": 30.0}, 30.0),
            ({"run_at": 100.0}, 90.0),
            ({"delay": 30.0, "run_at": 50.0}, 40.0),
            ({"run_at": 5.0}, 0.0),
        ],
    )
    @pytest.mark.parametrize("before", [True, False])
    def test_a_wait_says_when_it_is_due_with_its_signal(
        self, store: Store, clock: FrozenClock, said: dict[str, float], seconds: float, before: bool
    ) -> None:
        """With the signal it is available when the wait says, by its `delay` and `run_at`."""
        began = clock.now()
        wait = Wait("go", 600.0, delay=said.get("delay"), run_at=began + said["run_at"] if "run_at" in said else None)
        run = started(store)
        clock.advance(10.0)
        assert not before or store.signal(run.id, a_signal("s1"))
        assert settle(store, stepped(run, "main/b/2", State.WAITING, wait=wait)) is Answer.OK
        assert before or store.signal(run.id, a_signal("s1"))
        found = record(store, run.id)
        assert found.state is State.AVAILABLE
        assert found.run_at == pytest.approx(clock.now() + seconds)
        if seconds > 0:
            assert (fetch(store), until_due(store)) == ([], seconds)
        clock.advance(seconds)
        again = fetch_one(store)
        assert (again.operation and again.operation.wait, store.signals(run.id)[0].taken_at) == (wait, began + 10.0)

    def test_without_a_signal_it_is_due_when_its_time_is_over(self, store: Store, clock: FrozenClock) -> None:
        """… and without one when its time is over, whatever the wait says of its `delay`."""
        run = started(store)
        settle(store, stepped(run, "main/b/2", State.WAITING, wait=Wait("go", 60.0, delay=30.0)))
        clock.advance(60.0)
        assert fetch_one(store).cursor == "main/b/2"

    def test_a_signal_sent_twice_is_one(self, store: Store) -> None:
        """A signal with the id of one that was kept is not kept again."""
        id = waiting(store)
        assert store.signal(id, a_signal("s1", payload=1))
        before = whole(store, id)
        assert store.signal(id, a_signal("s1", payload=1))
        assert whole(store, id) == before

    def test_who_has_completed_takes_no_signal(self, store: Store) -> None:
        """It says whether there is such an operation and it has not completed; else nothing is kept."""
        run = started(store)
        assert not store.signal("nobody", a_signal("s1"))
        assert not store.signal(add(store), a_signal("s1"))
        settle(store, stepped(run, FIRST, State.COMPLETED))
        assert not store.signal(run.id, a_signal("s1"))
        assert store.signals(run.id) == []

    @pytest.mark.parametrize("end", [failed, cancelled, parked])
    def test_who_did_not_end_well_keeps_a_signal_for_its_retry(
        self, store: Store, clock: FrozenClock, end: Callable[[Fetched], Settlement]
    ) -> None:
        """One that failed, was cancelled or is parked stays so; retried, it takes what was kept when it waits again."""
        id = waiting(store, timeout=60.0)
        clock.advance(60.0)
        settle(store, end(fetch_one(store)))
        before = record(store, id)
        assert store.signal(id, a_signal("late", payload=1))
        assert (record(store, id), store.signals(id)[0].taken_at, fetch(store)) == (before, None, [])
        assert store.retry(Filter(ids=(id,))) == 1
        run = fetch_one(store)
        assert (run.operation and run.operation.received, store.signals(id)[0].taken_at) == ("1", clock.now())

    def test_a_wait_is_over_after_its_timeout(self, store: Store, clock: FrozenClock) -> None:
        """An operation whose wait is over without a signal is due."""
        id = waiting(store, timeout=60.0)
        clock.advance(59.0)
        assert (fetch(store), until_due(store)) == ([], 1.0)
        clock.advance(1.0)
        assert (store.next_due(), list(store.oldest_due())) == (0.0, ["default"])
        run = fetch_one(store)
        assert run.id == id
        assert run.operation is not None
        assert (run.operation.wait, run.operation.received) == (Wait("go", 60.0, "answer"), None)
        assert store.next_due() is None

    def test_a_signal_in_time_ends_the_timeout(self, store: Store, clock: FrozenClock) -> None:
        """A timeout that a signal came before means nothing any more."""
        id = waiting(store, timeout=60.0)
        store.signal(id, a_signal("s1"))
        assert store.next_due() is None
        clock.advance(100.0)
        settle(store, stepped(fetch_one(store), "main/c/3", State.WAITING, wait=Wait("go")))
        assert fetch(store) == []

    def test_a_wait_that_is_settled_twice_begins_once(self, store: Store, clock: FrozenClock) -> None:
        """The same settlement sent again changes nothing, whatever came of the wait."""
        run = started(store)
        settlement = waits(run, timeout=60.0)
        settle(store, settlement)
        clock.advance(10.0)
        store.signal(run.id, a_signal("s1"))
        before = whole(store, run.id)
        assert settle(store, settlement) is Answer.ALREADY
        assert whole(store, run.id) == before

    def test_who_waits_can_be_cancelled(self, store: Store, clock: FrozenClock) -> None:
        """One that waits is cancelled as any other, and its timeout with it."""
        id = waiting(store, timeout=60.0)
        assert store.cancel(Filter(ids=(id,)), reason="x") == 1
        assert (state(store, id), store.next_due()) == (State.CANCELLED, None)
        clock.advance(100.0)
        assert (fetch(store), state(store, id)) == ([], State.CANCELLED)

    def test_who_is_brought_back_waits_again(self, store: Store, clock: FrozenClock) -> None:
        """Retried, it waits again, for as long as it was to."""
        id = waiting(store, timeout=60.0)
        store.cancel(Filter(ids=(id,)), reason="x")
        clock.advance(100.0)
        assert store.retry(Filter(ids=(id,)), resume=True) == 1
        assert (state(store, id), until_due(store)) == (State.WAITING, 60.0)
        store.signal(id, a_signal("s1", payload=1))
        assert operation(store, id).received == "1"

    def test_who_failed_for_want_of_a_signal_waits_again(self, store: Store, clock: FrozenClock) -> None:
        """Retried, one that failed because its signal did not come waits for it again."""
        id = waiting(store, timeout=60.0)
        clock.advance(60.0)
        settle(store, failed(fetch_one(store)))
        assert store.retry(Filter(ids=(id,))) == 1
        assert (state(store, id), until_due(store)) == (State.WAITING, 60.0)

    def test_who_was_to_stop_before_it_waits_is_cancelled(self, store: Store) -> None:
        """A job that was asked to stop and would come back is cancelled instead; brought back, it waits."""
        run = started(store)
        store.cancel(Filter(ids=(run.id,)), reason="x")
        assert settle(store, waits(run, timeout=60.0)) is Answer.OK
        assert (state(store, run.id), store.next_due()) == (State.CANCELLED, None)
        store.retry(Filter(ids=(run.id,)))
        assert (state(store, run.id), until_due(store)) == (State.WAITING, 60.0)

    def test_many_are_signalled_as_each_would_be(self, store: Store) -> None:
        """`signal_many`: `signal` for each, by the id of its operation, and what each came to."""
        done = started(store)
        settle(store, stepped(done, FIRST, State.COMPLETED))
        ids, plain = [waiting(store), waiting(store, "other"), waiting(store)], add(store)
        sent = [(id, a_signal("s1", payload=n)) for n, id in enumerate([*ids, plain, done.id, "nobody"])]
        sent += [(ids[2], a_signal("s2", payload="again"))]
        assert store.signal_many(sent) == [True, True, True, False, False, False, True]
        assert [state(store, id) for id in ids] == [State.AVAILABLE, State.WAITING, State.AVAILABLE]
        assert [[signal.id for signal in store.signals(id)] for id in ids] == [["s1"], ["s1"], ["s1", "s2"]]
        before = whole(store, *ids), [store.signals(id) for id in ids]
        assert store.signal_many(sent) == [True, True, True, False, False, False, True]
        assert (whole(store, *ids), [store.signals(id) for id in ids]) == before
        assert store.signal_many([]) == []


class UndoConformance(Conformance):
    """Endings, and `cancel` with `undo`."""

    def test_a_step_that_fails_for_good_begins_the_undoing(self, store: Store) -> None:
        """`ending` says that from now on what it did is undone: the operation is available, and has it."""
        run = kept(store, started(store))
        ending = Ending(State.FAILED, BOOM)
        going_back = stepped(run, "undo/2", State.AVAILABLE, ending=ending, error=BOOM, history="failed")
        assert settle(store, going_back) is Answer.OK
        run = fetch_one(store)
        assert (run.cursor, run.operation and run.operation.ending) == ("undo/2", ending)
        run = kept(store, run, "undo/1")
        end = stepped(run, "undo/0", State.FAILED, error=BOOM, history="failed")
        assert settle(store, end) is Answer.OK
        assert (state(store, run.id), record(store, run.id).error) == (State.FAILED, BOOM)
        assert operation(store, run.id).ending == ending

    def test_the_first_ending_stays(self, store: Store) -> None:
        """One that has an ending keeps it."""
        run = started(store)
        undo(store, run.id)
        settle(store, stepped(run, "undo/1", State.AVAILABLE, ending=Ending(State.FAILED, BOOM), history="failed"))
        assert operation(store, run.id).ending == UNDONE

    @pytest.mark.parametrize("before", [State.AVAILABLE, State.WAITING, State.PARKED])
    def test_an_operation_is_undone_instead_of_cancelled(self, store: Store, clock: FrozenClock, before: State) -> None:
        """With `undo`, an operation is not cancelled: it gets that ending, and is available at once."""
        run = started(store)
        if before is State.WAITING:
            settle(store, waits(run, timeout=60.0))
        else:
            settle(store, ended(run, before, reason="x", history="released", delay=600.0))
        assert undo(store, run.id) == 1
        found = record(store, run.id)
        assert (found.state, found.run_at, found.reason) == (State.AVAILABLE, clock.now(), "wrong customer")
        assert (found.stopped_by, found.stopped_at, found.attempt) == ("ann", clock.now(), 0)
        again = fetch_one(store)
        assert again.operation is not None
        assert (again.operation.ending, again.operation.wait) == (UNDONE, None)
        assert store.next_due() is None

    def test_one_that_waits_for_pieces_leaves_them(self, store: Store) -> None:
        """Its batch, if it waits for one, is stopped."""
        id, pieces = splitting_operation(store)
        leaves(store, 1)
        assert undo(store, id) == 1
        assert (state(store, id), batch(store, "b1").state) == (State.AVAILABLE, BatchState.STOPPED)
        assert states(store, pieces) == [State.RUNNING, State.CANCELLED, State.CANCELLED]
        assert record(store, pieces[0]).stopping

    @pytest.mark.parametrize("running", [False, True])
    def test_the_pieces_of_one_that_is_undone_do_not_come_back(self, store: Store, running: bool) -> None:
        """… and does not come back with it: cancelled and retried, it is undone, and waits for nothing."""
        if running:
            run = started(store)
            pieces = offering(store, run, 3)
            undo(store, run.id)
            store.reap("w.1")
            id = run.id
        else:
            id, pieces = splitting_operation(store)
            undo(store, id)
        assert record(store, id).below is None
        assert store.cancel(Filter(ids=(id,)), reason="enough") == 1
        assert store.retry(Filter(ids=(id,))) == 1
        assert (state(store, id), set(states(store, pieces))) == (State.AVAILABLE, {State.CANCELLED})
        assert store.retry(Filter(ids=tuple(pieces))) == 0

    def test_other_jobs_are_cancelled(self, store: Store) -> None:
        """Only operations are undone."""
        plain, id = add(store), start(store)
        assert store.cancel(EVERYTHING, reason="x", undo=True) == 2
        assert (state(store, plain), state(store, id)) == (State.CANCELLED, State.AVAILABLE)

    def test_pieces_that_match_too_are_counted_once(self, store: Store) -> None:
        """Its batch, if it waits for one, is stopped, and what ends with it has ended for this call as well."""
        id, pieces = splitting_operation(store)
        assert store.cancel(EVERYTHING, reason="x", undo=True, by="ann") == 1 + len(pieces)
        assert (state(store, id), set(states(store, pieces))) == (State.AVAILABLE, {State.CANCELLED})
        assert {record(store, piece).stopped_by for piece in pieces} == {"ann"}
        batch = store.batch(record(store, pieces[0]).batch or "")
        assert batch is not None
        assert (batch.open, batch.cancelled) == (0, len(pieces))
        assert store.repair() == []

    def test_undoing_sent_twice_is_one(self, store: Store) -> None:
        """One that has that ending already is left."""
        id = start(store)
        assert undo(store, id) == 1
        before = whole(store, id)
        assert undo(store, id, reason="again", by="bob") == 0
        assert whole(store, id) == before

    def test_one_that_has_ended_is_left(self, store: Store) -> None:
        """One that has ended is left."""
        run = started(store)
        settle(store, stepped(run, FIRST, State.COMPLETED))
        assert undo(store, run.id) == 0
        assert (state(store, run.id), operation(store, run.id).ending) == (State.COMPLETED, None)

    def test_those_that_are_left_do_not_count(self, store: Store) -> None:
        """`limit` counts those that it touches."""
        ids = [start(store) for _ in range(4)]
        for _ in range(2):
            assert store.cancel(EVERYTHING, reason="x", undo=True, limit=2) == 2
        assert [operation(store, id).ending is not None for id in ids] == [True] * 4

    def test_what_runs_is_asked_to_stop(self, store: Store) -> None:
        """One that runs is asked to stop, and goes on running until it answers."""
        run = started(store)
        assert undo(store, run.id) == 1
        assert (state(store, run.id), store.report("w.1", {})) == (State.RUNNING, [run.id])

    @pytest.mark.parametrize("how", ["cancelled", "retried", "reaped", "crashed"])
    def test_what_was_to_stop_is_available_for_its_undoing(self, store: Store, how: str) -> None:
        """One that was asked to stop and to undo is available instead of cancelled, with that ending."""
        run = kept(store, started(store))
        undo(store, run.id)
        if how == "cancelled":
            assert settle(store, cancelled(run)) is Answer.OK
        elif how == "retried":
            assert settle(store, retried(run, delay=60.0)) is Answer.OK
        else:
            store.reap("w.1", crashed=[run.id] if how == "crashed" else [], crash_limit=1)
        assert not record(store, run.id).stopping
        again = fetch_one(store, worker="w.2")
        assert (again.cursor, again.attempt, again.crashes) == ("main/b/2", 0, 0)
        assert again.operation is not None
        assert again.operation.ending == UNDONE
        assert lines(store, run.id)[0][1] == "completed"

    @pytest.mark.parametrize("next", [State.RUNNING, State.AVAILABLE, State.WAITING])
    def test_what_it_completed_meanwhile_is_recorded(self, store: Store, next: State) -> None:
        """What it completed meanwhile is recorded; it does not go on to the next step."""
        run = started(store)
        undo(store, run.id)
        wait = Wait("go", 60.0) if next is State.WAITING else None
        settlement = stepped(run, "main/b/2", next, change("n", 1), wait=wait)
        answer = Answer.LET_GO if next is State.RUNNING else Answer.OK
        assert settle(store, settlement) is answer
        assert lines(store, run.id) == [(1, "completed", FIRST)]
        assert globals_of(store, run.id) == {"n": 1}
        before = whole(store, run.id)
        assert settle(store, settlement) is (Answer.LET_GO if next is State.RUNNING else Answer.ALREADY)
        assert whole(store, run.id) == before
        again = fetch_one(store)
        assert again.operation is not None
        assert (again.cursor, again.operation.ending, again.operation.wait) == ("main/b/2", UNDONE, None)

    def test_the_end_of_its_last_step_is_recorded_and_undone(self, store: Store) -> None:
        """… so is its last step: it is available then at that step's cursor, instead of completed."""
        run = started(store)
        undo(store, run.id)
        settlement = replace(stepped(run, FIRST, State.COMPLETED, change("n", 1)), result='{"n":1}')
        assert settle(store, settlement) is Answer.OK
        there = record(store, run.id)
        assert (there.state, there.cursor, there.result, there.finished_at) == (State.AVAILABLE, FIRST, None, None)
        assert (there.reason, there.stopping) == (UNDONE.reason, False)
        before = whole(store, run.id)
        assert lines(store, run.id) == [(1, "completed", FIRST)]
        assert globals_of(store, run.id) == {"n": 1}
        assert settle(store, settlement) is Answer.ALREADY
        assert whole(store, run.id) == before
        again = fetch_one(store)
        assert again.operation is not None
        assert (again.cursor, again.operation.ending) == (FIRST, UNDONE)

    def test_one_that_fails_all_the_same_has_failed(self, store: Store) -> None:
        """… where it fails all the same, that ending is dropped."""
        run = started(store)
        undo(store, run.id)
        assert settle(store, stepped(run, FIRST, State.FAILED, error=BOOM, history="failed")) is Answer.OK
        assert (state(store, run.id), operation(store, run.id).ending) == (State.FAILED, None)

    def test_one_that_is_being_undone_can_be_cancelled(self, store: Store) -> None:
        """Without `undo` it is cancelled, whatever is left to be undone."""
        run = started(store)
        undo(store, run.id)
        settle(store, cancelled(run))
        assert store.cancel(Filter(ids=(run.id,)), reason="enough") == 1
        assert state(store, run.id) is State.CANCELLED
        store.retry(Filter(ids=(run.id,)))
        again = fetch_one(store)
        store.cancel(Filter(ids=(run.id,)), reason="enough")
        assert settle(store, stepped(again, "undo/1", history="undone")) is Answer.LET_GO
        assert state(store, run.id) is State.CANCELLED


def deeds(store: Store, id: str) -> list[tuple[str, str, str]]:
    """What was done to an operation by hand: what, by whom, and why."""
    made = store.amendments(id)
    assert len({line.id for line in made}) == len(made)
    assert all(line.cursor is None and not line.changes for line in made)
    return [(line.what, line.by, line.reason) for line in made]


class DeedConformance(Conformance):
    """The lines that `cancel` and `retry` keep of operations."""

    def test_what_is_done_keeps_a_line(self, store: Store, clock: FrozenClock) -> None:
        """Cancelled, resumed, cancelled and retried without a run in between: four lines, with where it was, and when."""
        id = start(store)
        only = Filter(ids=(id,))
        store.cancel(only, reason="early", by="ann")
        clock.advance(5.0)
        store.retry(only, resume=True, by="ben", reason="not so early")
        store.cancel(only, reason="again", by="ann")
        store.retry(only, by="ben")
        assert deeds(store, id) == [
            ("cancelled", "ann", "early"), ("resumed", "ben", "not so early"), ("cancelled", "ann", "again"),
            ("retried", "ben", ""),
        ]  # fmt: skip
        resumed = store.amendments(id)[1]
        assert (resumed.job, resumed.run, resumed.at, resumed.cursor_before) == (id, 0, clock.now(), FIRST)

    def test_what_is_not_done_keeps_none(self, store: Store) -> None:
        """What has ended, what has not, and what cannot come back: nothing is done to them, and no line says so."""
        id = start(store, key="k")
        only = Filter(ids=(id,))
        assert store.retry(only, by="ann") == 0
        store.cancel(only, reason="early", by="ann")
        add(store, key="k")
        for _ in range(2):
            assert store.cancel(only, reason="twice", by="ann") == 0
            assert store.retry(only, by="ann") == store.retry(only, resume=True, by="ann") == 0
        assert deeds(store, id) == [("cancelled", "ann", "early")]

    def test_what_nobody_did_keeps_none(self, store: Store) -> None:
        """Without `by` there is nobody to be named; and only operations keep lines."""
        id, plain = start(store), add(store)
        for by in (None, "ann"):
            store.cancel(Filter(ids=(id,)) if by is None else Filter(ids=(plain,)), reason="x", by=by)
            store.retry(Filter(), by=by)
        assert deeds(store, id) == deeds(store, plain) == []

    @pytest.mark.parametrize("runs", [False, True])
    def test_what_is_to_be_undone_keeps_a_line(self, store: Store, runs: bool) -> None:
        """Once: one that has that ending already is left. One that runs is asked to stop, and that is what is kept."""
        id = started(store).id if runs else start(store)
        undo(store, id)
        undo(store, id)
        assert deeds(store, id) == [("undoing", "ann", "wrong customer")]

    def test_pieces_that_come_back_keep_their_own(self, store: Store) -> None:
        """An operation that is a piece keeps a line of being brought back; the end of what was above it leaves none."""
        run = started(store)
        piece = an_operation("p1", piece="0", batch="b1", ordinal=0)
        store.add([piece], batch=NewBatch(id="b1", then=run.id, always=True))
        settle(store, sealing(run, 1))
        store.cancel(Filter(ids=(run.id,)), reason="x", by="ann")
        assert deeds(store, "p1") == []
        store.retry(Filter(ids=(run.id,)), by="ann", reason="so")
        assert deeds(store, "p1") == [("retried", "ann", "so")]
        assert deeds(store, run.id) == [("cancelled", "ann", "x"), ("retried", "ann", "so")]

    def test_what_is_above_a_piece_keeps_its_own(self, store: Store) -> None:
        """An operation that comes back because a piece of its step does."""
        id, pieces = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        settle(store, failed(fetch_one(store), BOOM))
        assert store.retry(Filter(ids=(pieces[0],)), by="ann") == 1
        assert deeds(store, id) == [("retried", "ann", "")]


class AmendConformance(Conformance):
    """`amend`."""

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED, State.PARKED])
    def test_what_is_moved_goes_on_at_once_if_asked_to(self, store: Store, clock: FrozenClock, end: State) -> None:
        """With `resume` it comes back in that transaction, due after the delay; one line says all of it."""
        run = started(store)
        settle(store, parked(run) if end is State.PARKED else ended(run, end, attempt=1, history=str(end)))
        moved = an_amendment(cursor="main/c/9", delay=20.0, resume=True)
        assert store.amend(run.id, FIRST, moved) is Answer.OK
        back = record(store, run.id)
        assert (back.state, back.cursor, back.attempt, back.error) == (State.AVAILABLE, "main/c/9", 0, None)
        assert (back.run_at, fetch(store)) == (clock.now() + 20.0, [])
        assert [line.what for line in store.amendments(run.id)] == ["jumped"]
        assert store.amend(run.id, FIRST, moved) is Answer.ALREADY

    def test_what_cannot_go_on_is_not_moved(self, store: Store) -> None:
        """Where its key is carried by another, the answer is `stale` and nothing is changed."""
        run = started(store, key="k")
        settle(store, ended(run, State.FAILED, attempt=1, history="failed"))
        other = add(store, key="k")
        before = whole(store, run.id)
        moved = an_amendment(cursor="main/c/9", resume=True, onward=True, changes=(change("n", 2),))
        assert store.amend(run.id, FIRST, moved) is Answer.STALE
        assert (whole(store, run.id), store.amendments(run.id)) == (before, [])
        store.cancel(Filter(ids=(other,)), reason="x")
        assert store.amend(run.id, FIRST, moved) is Answer.OK

    @pytest.mark.parametrize("sealed", [False, True])
    def test_what_was_below_it_concerns_a_moved_operation_no_more(self, store: Store, sealed: bool) -> None:
        """Pieces of a step that it has left: those that were still being offered are stopped, the others are as they are."""
        run = started(store)
        offering(store, run, 2)
        if sealed:
            settle(store, sealing(run, 2))
            store.settle([completed(leaf) for leaf in leaves(store)])
            run = fetch_one(store)
        settle(store, parked(run))
        assert store.amend(run.id, run.cursor or "", an_amendment(cursor="main/c/9")) is Answer.OK
        assert (record(store, run.id).below, record(store, run.id).state) == (None, State.PARKED)
        assert batch(store, "b1").state is (BatchState.DONE if sealed else BatchState.STOPPED)
        assert leaves(store) == []
        assert store.retry(Filter(ids=(run.id,))) == 1
        assert fetch_one(store).cursor == "main/c/9"

    def test_a_moved_piece_opens_its_batch_again(self, store: Store) -> None:
        """What is above an operation that goes on waits for it again."""
        run = started(store)
        store.add(
            [an_operation("p1", piece="0", batch="b1", ordinal=0)], batch=NewBatch(id="b1", then=run.id, always=True)
        )
        settle(store, sealing(run, 1))
        settle(store, failed(fetch_one(store), BOOM))
        settle(store, failed(fetch_one(store), BOOM))
        assert store.amend("p1", FIRST, an_amendment(cursor="main/c/9", resume=True)) is Answer.OK
        assert (state(store, "p1"), state(store, run.id)) == (State.AVAILABLE, State.WAITING)
        assert batch(store, "b1").state is BatchState.OPEN

    def test_a_move_goes_on_elsewhere(self, store: Store, clock: FrozenClock) -> None:
        """One that is moved begins its new step's attempts anew, and is due after the amendment's delay."""
        run = started(store, queue="here")
        settle(store, retried(run, delay=600.0))
        moved = an_amendment(cursor="main/c/9", queue="there", priority=3, delay=20.0, reason="so")
        assert store.amend(run.id, FIRST, moved) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.cursor, found.queue, found.priority) == (State.AVAILABLE, "main/c/9", "there", 3)
        assert (found.attempt, found.error, found.run_at) == (0, None, clock.now() + 20.0)
        assert fetch(store) == []
        clock.advance(20.0)
        assert fetch_one(store).cursor == "main/c/9"

    def test_each_leaves_a_line(self, store: Store, clock: FrozenClock) -> None:
        """A line is kept that says who, when and why, oldest first."""
        id = start(store)
        edit = change("n", 1)
        assert store.amend(id, FIRST, an_amendment("a1", changes=(edit,), reason="typo")) is Answer.OK
        clock.advance(1.0)
        assert store.amend(id, FIRST, an_amendment("a2", "main/b/2", what="skipped")) is Answer.OK
        one, two = store.amendments(id)
        assert (one.id, one.job, one.run, one.what, one.by, one.reason) == ("a1", id, 0, "edited", "ann", "typo")
        assert (one.cursor_before, one.cursor, one.changes) == (FIRST, None, (edit,))
        assert (two.what, two.cursor_before, two.cursor, two.at - one.at) == ("skipped", FIRST, "main/b/2", 1.0)

    def test_an_edit_changes_globals_key_by_key(self, store: Store) -> None:
        """Its globals are edited key by key, while it runs as well: what a step changes meanwhile stays, too."""
        run = started(store, change("a", 1, "a=1"), change("b", 1))
        assert store.amend(run.id, FIRST, an_amendment(changes=(change("a", 2, "a=2"),))) is Answer.OK
        settle(store, stepped(run, "main/b/2", State.AVAILABLE, change("b", 2)))
        assert (globals_of(store, run.id), found_by(store, "a=2"), found_by(store, "a=1")) == (
            {"a": 2, "b": 2}, [run.id], [],
        )  # fmt: skip

    def test_an_edit_leaves_everything_else(self, store: Store) -> None:
        """`cursor` is None where it stays: then nothing but globals changes."""
        run = started(store)
        before = record(store, run.id)
        store.amend(run.id, FIRST, an_amendment(changes=(change("a", 2),), queue="there", delay=5.0))
        assert record(store, run.id) == before

    def test_an_amendment_sent_twice_is_one(self, store: Store) -> None:
        """An amendment with the id of one that was made answers `already` and changes nothing."""
        id = start(store)
        moved = an_amendment(cursor="main/c/9", changes=(change("n", 1),))
        assert store.amend(id, FIRST, moved) is Answer.OK
        before = whole(store, id)
        assert store.amend(id, FIRST, moved) is Answer.ALREADY
        assert whole(store, id) == before

    def test_many_are_amended_as_each_would_be(self, store: Store) -> None:
        """`amend_many`: `amend` for each, and what each came to; sent again, it changes nothing."""
        runs = [started(store, change("n", n)) for n in range(4)]
        ends = [State.FAILED, State.CANCELLED, State.PARKED]
        for run, end in zip(runs, ends, strict=False):
            settle(store, parked(run) if end is State.PARKED else ended(run, end, attempt=1, history=str(end)))
        plain = add(store, queue="elsewhere")
        moved = an_amendment(cursor="main/c/9", queue="there", resume=True, onward=True)
        deeds = [
            *(Deed(run.id, FIRST, moved) for run in runs),
            Deed(runs[3].id, FIRST, an_amendment("a2", changes=(change("n", 7),))),
            *(Deed(id, FIRST, moved) for id in (plain, "nobody")),
            Deed(runs[0].id, "main/c/9", an_amendment("a3", "main/b/2", delay=20.0, changes=(change("n", 8),))),
            Deed(runs[1].id, FIRST, an_amendment("a3", changes=(change("n", 9),))),
        ]
        ok, stale = Answer.OK, Answer.STALE
        assert store.amend_many(deeds) == [ok, ok, ok, stale, ok, stale, stale, ok, stale]
        found = [record(store, run.id) for run in runs]
        assert [(job.state, job.cursor, job.queue) for job in found] == [
            (State.AVAILABLE, "main/b/2", "there"),
            (State.AVAILABLE, "main/c/9", "there"),
            (State.AVAILABLE, "main/c/9", "there"),
            (State.RUNNING, FIRST, runs[3].queue),
        ]
        assert [globals_of(store, run.id) for run in runs] == [{"n": n} for n in (8, 1, 2, 7)]
        assert [[line.id for line in store.amendments(run.id)] for run in runs] == [
            ["a1", "a3"],
            ["a1"],
            ["a1"],
            ["a2"],
        ]
        assert store.count(Filter(state=State.AVAILABLE, queue="there")) == 3
        before = whole(store, plain, *(run.id for run in runs))
        already = Answer.ALREADY
        assert store.amend_many(deeds) == [already] * 3 + [stale, already, stale, stale, already, stale]
        assert whole(store, plain, *(run.id for run in runs)) == before
        assert store.amend_many([]) == []

    def test_of_many_those_that_cannot_go_on_keep_no_other(self, store: Store) -> None:
        """Each is made wholly or not at all: one whose key is carried by another, one with pieces below it, a piece."""
        above, pieces = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        settle(store, failed(fetch_one(store), BOOM))
        keyed, free = started(store, key="k"), started(store)
        for run in (keyed, free):
            settle(store, ended(run, State.FAILED, attempt=1, history="failed"))
        carrier = add(store, key="k")
        moved = an_amendment(cursor="main/c/9", resume=True)
        deeds = [Deed(id, record(store, id).cursor or "", moved) for id in (keyed.id, above, free.id)]
        assert store.amend_many(deeds) == [Answer.STALE, Answer.OK, Answer.OK]
        assert [state(store, id) for id in (keyed.id, above, free.id, pieces[0], carrier)] == [
            State.FAILED, State.AVAILABLE, State.AVAILABLE, State.FAILED, State.AVAILABLE,
        ]  # fmt: skip
        assert [len(store.amendments(deed.id)) for deed in deeds] == [0, 1, 1]

    def test_of_several_with_one_key_the_first_goes_on(self, store: Store) -> None:
        """As where each was started when the one before it had ended; so does the first that `retry` finds."""
        runs = []
        for _ in range(3):
            runs.append(started(store, key="k", again=True))
            settle(store, ended(runs[-1], State.FAILED, attempt=1, history="failed"))
        moved = an_amendment(cursor="main/c/9", resume=True)
        assert store.amend_many([Deed(run.id, FIRST, moved) for run in runs]) == [Answer.OK, Answer.STALE, Answer.STALE]
        assert [state(store, run.id) for run in runs] == [State.AVAILABLE, State.FAILED, State.FAILED]
        settle(store, ended(fetch_one(store), State.FAILED, attempt=1, history="failed"))
        assert store.retry(Filter(operations=True), by="ann") == 1
        assert [state(store, run.id) for run in runs] == [State.AVAILABLE, State.FAILED, State.FAILED]
        assert [len(store.amendments(run.id)) for run in runs] == [2, 0, 0]

    def test_one_that_is_edited_and_goes_on_waits_for_its_signal_again(self, store: Store) -> None:
        """With `resume` it comes back as `retry` brings it back: to its wait, and with a signal that was kept, at once."""
        ids = [waiting(store), waiting(store)]
        store.cancel(Filter(ids=tuple(ids)), reason="x")
        assert store.signal(ids[1], a_signal("s1", payload=1))
        edit = an_amendment(changes=(change("n", 1),), resume=True)
        assert store.amend_many([Deed(id, "main/b/2", edit) for id in ids]) == [Answer.OK] * 2
        assert [state(store, id) for id in ids] == [State.WAITING, State.AVAILABLE]
        assert [line.what for line in store.amendments(ids[0])] == ["edited"]

    def test_it_moves_from_where_it_was_seen(self, store: Store) -> None:
        """`stale`, and nothing is changed, where there is no such operation, or its cursor is not that any more."""
        id, plain = start(store), add(store)
        before = whole(store, id, plain)
        changed = an_amendment(changes=(change("n", 1),))
        assert store.amend(id, "main/b/2", changed) is Answer.STALE
        assert store.amend("nobody", FIRST, changed) is Answer.STALE
        assert store.amend(plain, FIRST, changed) is Answer.STALE
        assert whole(store, id, plain) == before

    @pytest.mark.parametrize("at", ["running", "completed", "pieces"])
    def test_it_is_not_moved_under_somebodys_hands(self, store: Store, at: str) -> None:
        """… or where the amendment moves it while it runs, waits for its pieces, or has completed."""
        if at == "pieces":
            id, _ = splitting_operation(store)
        else:
            run = started(store)
            id = run.id
            if at == "completed":
                settle(store, stepped(run, FIRST, State.COMPLETED))
        cursor = record(store, id).cursor or ""
        before = whole(store, id)
        assert store.amend(id, cursor, an_amendment(cursor="main/c/9")) is Answer.STALE
        assert whole(store, id) == before
        assert store.amend(id, cursor, an_amendment(changes=(change("n", 1),))) is Answer.OK
        assert (globals_of(store, id), record(store, id).cursor) == ({"n": 1}, cursor)

    def test_what_it_waited_for_is_over(self, store: Store) -> None:
        """A move ends the wait: the operation is available, and no timeout is left."""
        id = waiting(store, timeout=60.0)
        assert store.amend(id, "main/b/2", an_amendment(cursor="main/c/3")) is Answer.OK
        assert (state(store, id), operation(store, id).wait, store.next_due()) == (State.AVAILABLE, None, None)
        assert store.signal(id, a_signal("s1"))
        assert [signal.taken_at for signal in store.signals(id)] == [None]

    @pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED, State.PARKED])
    def test_what_has_ended_stays_so_until_it_is_retried(self, store: Store, end: State) -> None:
        """One that has failed, was cancelled or is parked stays so until it is retried, and goes on there then."""
        run = started(store)
        settle(store, ended(run, end, attempt=1, error=BAD_BODY, reason="x", history=end.value))
        assert store.amend(run.id, FIRST, an_amendment(cursor="main/c/3", queue="there")) is Answer.OK
        assert (state(store, run.id), record(store, run.id).error) == (end, BAD_BODY)
        assert store.retry(Filter(ids=(run.id,))) == 1
        assert (record(store, run.id).queue, fetch_one(store, queue="there").cursor) == ("there", "main/c/3")

    def test_an_ending_can_be_taken_back(self, store: Store) -> None:
        """With `onward`, what it was to come to is taken back."""
        run = started(store)
        settle(store, stepped(run, "undo/1", State.FAILED, ending=Ending(State.FAILED, BOOM), error=BOOM))
        assert store.amend(run.id, "undo/1", an_amendment("a1", "undo/0")) is Answer.OK
        assert operation(store, run.id).ending is not None
        assert store.amend(run.id, "undo/0", an_amendment("a2", "main/a/2", onward=True)) is Answer.OK
        assert operation(store, run.id).ending is None


def splitting_operation(
    store: Store, n: int = 3, on_failure: OnFailure = OnFailure.FINISH, id: str = "b1"
) -> tuple[str, list[str]]:
    """An operation that waits for the pieces of its step's split, in a batch `b1`: its id and theirs."""
    run = started(store)
    pieces = offering(store, run, n, on_failure, id)
    assert settle(store, sealing(run, n)) is Answer.OK
    return run.id, pieces


def offering(
    store: Store, run: Fetched, n: int, on_failure: OnFailure = OnFailure.FINISH, id: str = "b1", **fields: Any
) -> list[str]:
    """Adds pieces of a step, as the worker of an operation does."""
    pieces = [replace(piece, batch=id) for piece in pieces_of(run, n)]
    new = NewBatch(id=id, then=run.id, on_failure=on_failure, always=True, **fields)
    return store.add(pieces, batch=new, fence=run.fence)


def sealing(run: Fetched, n: int) -> Settlement:
    return ended(run, State.WAITING, attempt=0, cursor=f"{run.cursor}/compose", seal=n)


class StepSplitConformance(Conformance):
    """Steps that are splits, and `always` batches."""

    def test_an_operation_is_released_by_its_pieces(self, store: Store) -> None:
        """When a sealed batch has no open piece left, the operation is released where it composes."""
        id, _ = splitting_operation(store)
        assert (state(store, id), record(store, id).below) == (State.WAITING, "b1")
        complete_leaves(store)
        run = fetch_one(store)
        assert (run.id, run.cursor, batch(store, "b1").state) == (id, FIRST + "/compose", BatchState.DONE)

    @pytest.mark.parametrize("on_failure", [OnFailure.FINISH, OnFailure.FAIL_FAST])
    def test_it_is_released_whatever_becomes_of_the_batch(self, store: Store, on_failure: OnFailure) -> None:
        """The continuation of an `always` batch is released whatever becomes of the batch."""
        id, pieces = splitting_operation(store, 3, on_failure)
        runs = leaves(store, 1 if on_failure is OnFailure.FAIL_FAST else 3)
        store.settle([failed(runs[0]), *[completed(run) for run in runs[1:]]])
        assert batch(store, "b1").state is BatchState.FAILED
        run = fetch_one(store, queue="default")
        assert (run.id, run.cursor) == (id, FIRST + "/compose")
        assert state(store, pieces[0]) is State.FAILED

    def test_it_goes_on_past_a_batch_that_failed(self, store: Store) -> None:
        """It looks for itself what became of its pieces: no end of the batch is its own."""
        id, _ = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        run = fetch_one(store)
        assert settle(store, stepped(run, "main/b/2", State.COMPLETED)) is Answer.OK
        assert (state(store, id), record(store, id).error, record(store, id).below) == (State.COMPLETED, None, None)

    def test_its_own_error_is_the_one_it_fails_with(self, store: Store) -> None:
        """It fails with what its worker says, and not with what its batch did."""
        id, _ = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        settle(store, failed(fetch_one(store), BOOM))
        assert (state(store, id), record(store, id).error) == (State.FAILED, BOOM)

    def test_a_batch_that_failed_before_it_was_sealed_releases_at_the_seal(self, store: Store) -> None:
        """Where a piece failed while others were still being offered, the operation is released once all are."""
        run = started(store)
        offering(store, run, 2, OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        assert (state(store, run.id), record(store, run.id).stopping) == (State.RUNNING, False)
        assert settle(store, sealing(run, 2)) is Answer.OK
        assert (state(store, run.id), batch(store, "b1").sealed) == (State.AVAILABLE, True)
        assert fetch_one(store, queue="default").cursor == FIRST + "/compose"

    def test_it_may_be_released_into_another_queue(self, store: Store) -> None:
        """`then_queue` and `then_priority` hold for an `always` batch as well."""
        run = started(store)
        offering(store, run, 1, then_queue="there", then_priority=2)
        settle(store, sealing(run, 1))
        store.settle([failed(leaves(store)[0])])
        assert (record(store, run.id).queue, record(store, run.id).priority) == ("there", 2)

    def test_retried_it_brings_its_pieces_back(self, store: Store) -> None:
        """An operation that failed where its pieces failed takes those pieces along."""
        id, pieces = splitting_operation(store)
        runs = leaves(store)
        store.settle([failed(runs[0]), completed(runs[1]), completed(runs[2])])
        settle(store, failed(fetch_one(store), BOOM))
        assert store.retry(Filter(ids=(id,))) == 1
        assert (state(store, id), tally(store, "b1")) == (State.WAITING, (1, 2, 0, 0))
        assert states(store, pieces) == [State.AVAILABLE, State.COMPLETED, State.COMPLETED]
        complete_leaves(store)
        assert fetch_one(store).cursor == FIRST + "/compose"

    def test_a_retried_piece_brings_its_operation_back(self, store: Store) -> None:
        """A failed piece opens its batch again, where the operation failed there."""
        id, pieces = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        settle(store, failed(fetch_one(store), BOOM))
        assert store.retry(Filter(ids=(pieces[0],))) == 1
        assert (state(store, id), state(store, pieces[0])) == (State.WAITING, State.AVAILABLE)
        complete_leaves(store)
        assert state(store, id) is State.AVAILABLE

    @pytest.mark.parametrize("at", ["available", "running", "later", "completed"])
    def test_old_pieces_stay_as_they_are(self, store: Store, at: str) -> None:
        """A piece whose operation has gone on stays as it is."""
        id, pieces = splitting_operation(store, 1)
        store.settle([failed(leaves(store)[0])])
        if at != "available":
            run = fetch_one(store)
        if at == "later":
            settle(store, failed(kept(store, run), BOOM))
        elif at == "completed":
            settle(store, stepped(run, FIRST, State.COMPLETED))
        before = whole(store, id)
        assert store.retry(Filter(ids=(pieces[0],))) == 0
        assert whole(store, id) == before
        assert batch(store, "b1").state is BatchState.FAILED

    def test_one_that_failed_later_leaves_old_pieces(self, store: Store) -> None:
        """An operation that failed at a later step comes back there, and no old piece with it."""
        id, pieces = splitting_operation(store, 2)
        runs = leaves(store)
        store.settle([failed(runs[0]), completed(runs[1])])
        settle(store, failed(kept(store, fetch_one(store)), BOOM))
        assert store.retry(Filter(ids=(id,))) == 1
        assert (state(store, id), record(store, id).cursor) == (State.AVAILABLE, "main/b/2")
        assert states(store, pieces) == [State.FAILED, State.COMPLETED]

    def test_a_second_split_has_a_batch_of_its_own(self, store: Store) -> None:
        """Each step's split has its own batch; the first is not touched by the second."""
        id, _ = splitting_operation(store, 1)
        complete_leaves(store)
        run = kept(store, fetch_one(store))
        offering(store, run, 2, id="b2")
        settle(store, sealing(run, 2))
        assert (state(store, id), record(store, id).below) == (State.WAITING, "b2")
        complete_leaves(store)
        assert (fetch_one(store).cursor, batch(store, "b2").state) == ("main/b/2/compose", BatchState.DONE)

    def test_a_split_without_pieces_composes_at_once(self, store: Store) -> None:
        """A step without a single piece is released by its seal; and so is the next."""
        run = started(store)
        for visit in range(2, 4):
            assert settle(store, sealing(run, 0)) is Answer.OK
            run = kept(store, fetch_one(store), f"main/b/{visit}")

    def test_a_step_that_ends_takes_its_open_batch_along(self, store: Store) -> None:
        """An operation that moves on has no batch below it: one that is open is stopped."""
        run = started(store)
        pieces = offering(store, run, 2)
        leaves(store, 1)
        settle(store, stepped(run, "undo/1", State.AVAILABLE, ending=Ending(State.FAILED, BOOM), history="failed"))
        assert (batch(store, "b1").state, record(store, run.id).below) == (BatchState.STOPPED, None)
        assert states(store, pieces) == [State.RUNNING, State.CANCELLED]

    def test_an_old_piece_releases_nobody_from_a_wait(self, store: Store) -> None:
        """An operation that waits for a signal is not released by what is left of an old batch."""
        id, _ = splitting_operation(store, 2, OnFailure.FAIL_FAST)
        first, second = leaves(store)
        settle(store, failed(first))
        settle(store, waits(fetch_one(store, queue="default")))
        settle(store, completed(second))
        assert (state(store, id), fetch(store)) == (State.WAITING, [])

    def test_an_operation_may_be_a_piece(self, store: Store) -> None:
        """An operation that ends is counted in the batch that it is a piece of."""
        parent = add(store, queue="splits", task="split")
        splitter = fetch_one(store, worker="splitter.1", queue="splits")
        jobs = [
            an_operation(f"op{n}", queue=LEAVES, batch=parent, root=parent, ordinal=n, task="leaf") for n in range(2)
        ]
        assert offer(store, splitter, jobs) == ["op0", "op1"]
        settle(store, ended(splitter, State.WAITING, cursor="compose", seal=2))
        one, two = leaves(store)
        assert one.operation is not None
        assert settle(store, stepped(one, FIRST, State.COMPLETED)) is Answer.OK
        assert settle(store, stepped(two)) is Answer.OK
        assert tally(store, parent) == (1, 1, 0, 0)
        assert settle(store, stepped(replace(two, run=2), "main/c/3", State.COMPLETED)) is Answer.OK
        assert (tally(store, parent), state(store, parent)) == ((0, 2, 0, 0), State.AVAILABLE)

    def test_pieces_are_pruned_with_their_operation(self, store: Store, clock: FrozenClock) -> None:
        """The batches and pieces of all its steps go with an operation."""
        id, pieces = splitting_operation(store)
        complete_leaves(store)
        settle(store, stepped(fetch_one(store), "main/b/2", State.COMPLETED))
        clock.advance(10.0)
        assert store.prune(before=clock.now()) + store.prune(before=clock.now()) == 4
        assert (everything(store), store.batch("b1"), store.get([id, *pieces])) == ([], None, [])

    def test_pieces_are_deleted_with_their_operation(self, store: Store) -> None:
        """`delete` takes all that is below an operation along."""
        id, _ = splitting_operation(store)
        complete_leaves(store)
        settle(store, stepped(fetch_one(store), "main/b/2", State.COMPLETED))
        assert store.delete(Filter(ids=(id,))) == 4
        assert (everything(store), store.batch("b1")) == ([], None)
        assert store.add([a_job("new")]) == ["new"]
