"""What the operators' verbs promise: cancel, retry, prune, repair, pause."""

from __future__ import annotations

import pytest

from piecework.errors import JobCancelled
from piecework.ids import new_id
from piecework.job import Answer, BatchState, Filter, NewBatch, OnFailure, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    EVERYTHING,
    LEAVES,
    SPLITS,
    Conformance,
    End,
    a_job,
    add,
    batch,
    cancelled,
    complete_leaves,
    completed,
    compose,
    everything,
    failed,
    fetch,
    fetch_one,
    finish_with,
    leaves,
    loose_batch,
    offer,
    parked,
    pieces_of,
    record,
    released,
    retried,
    running,
    settle,
    snapshot,
    split,
    splitting,
    state,
    states,
    tally,
    waiting,
)


def only(*ids: str) -> Filter:
    return Filter(ids=ids)


def nest(store: Store, on_failure: OnFailure = OnFailure.FINISH) -> tuple[str, str, list[str]]:
    """A split that waits for a split that waits for two leaves."""
    run = splitting(store)
    (inner,) = offer(store, run, pieces_of(run, ["inner"], queue=SPLITS), on_failure)
    settle(store, waiting(run, 1))
    inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
    pieces = offer(store, inner_run, pieces_of(inner_run, 2), on_failure)
    settle(store, waiting(inner_run, 2))
    return run.id, inner, pieces


class CancelConformance(Conformance):
    """Cancelling."""

    def test_cancel_touches_what_matches(self, store: Store) -> None:
        """Cancels unfinished jobs and returns how many it touched."""
        ids = store.add([a_job(queue="a"), a_job(queue="a"), a_job(queue="b")])
        assert store.cancel(Filter(queue="a"), reason="no") == 2
        assert states(store, ids) == [State.CANCELLED, State.CANCELLED, State.AVAILABLE]

    def test_a_job_that_has_not_started_never_does(self, store: Store, clock: FrozenClock) -> None:
        """A job that has not started never does."""
        due, later = add(store), add(store, delay=10)
        store.cancel(EVERYTHING, reason="no longer wanted")
        clock.advance(20)
        assert fetch(store, 10) == []
        found = record(store, due)
        assert (found.state, found.reason, found.finished_at) == (State.CANCELLED, "no longer wanted", clock.now() - 20)
        assert (record(store, later).run, record(store, later).started_at) == (0, None)

    def test_one_that_runs_is_asked_to_stop(self, store: Store) -> None:
        """One that runs is asked to stop; it runs until it answers."""
        run = running(store, worker="w.1")
        assert store.cancel(only(run.id), reason="no longer wanted") == 1
        found = record(store, run.id)
        assert (found.state, found.stopping) == (State.RUNNING, True)
        assert store.report("w.1", {}) == [run.id]

    def test_a_stopped_job_says_who_when_and_why(self, store: Store, clock: FrozenClock) -> None:
        """Each of them keeps who asked, when and why."""
        waits = add(store, queue="b")
        run = running(store, queue="a", priority=-1)
        asked = clock.now()
        store.cancel(only(run.id, waits), reason="wrong list", by="ann@desk")
        clock.advance(3)
        settle(store, cancelled(run))
        for id in (run.id, waits):
            found = record(store, id)
            assert (found.stopped_by, found.stopped_at, found.reason) == ("ann@desk", asked, "wrong list")

    def test_what_is_below_a_stopped_tree_keeps_why(self, store: Store) -> None:
        """What ends with it, below it, keeps why."""
        id, pieces = split(store, 2)
        store.cancel(only(id), reason="wrong list", by="ann@desk")
        assert record(store, id).stopped_by == "ann@desk"
        assert {(record(store, piece).state, record(store, piece).stopped_by) for piece in pieces} == {
            (State.CANCELLED, None)
        }
        assert {bool(record(store, piece).reason) for piece in pieces} == {True}

    @pytest.mark.parametrize("end", [retried, released, cancelled])
    def test_one_that_was_asked_to_stop_does_not_come_back(self, store: Store, end: End) -> None:
        """A job that was asked to stop and would come back is cancelled instead, with the reason that was given."""
        run = running(store)
        store.cancel(only(run.id), reason="no longer wanted")
        assert settle(store, end(run)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.reason, found.stopping) == (State.CANCELLED, "no longer wanted", False)
        assert fetch(store) == []

    def test_cancel_touches_parked_jobs(self, store: Store) -> None:
        """A parked job is unfinished."""
        run = running(store)
        settle(store, parked(run))
        assert store.cancel(only(run.id), reason="no") == 1
        assert state(store, run.id) is State.CANCELLED

    def test_cancel_touches_jobs_parked_for_crashing(self, store: Store) -> None:
        """So is one that is parked for crashing; cancelled, it gives its unique key back."""
        run = running(store, worker="w.1", key="k")
        store.reap("w.1", crashed=[run.id], crash_limit=1)
        assert store.cancel(only(run.id), reason="no") == 1
        assert state(store, run.id) is State.CANCELLED
        assert add(store, key="k") != run.id

    def test_a_cancelled_crasher_counts_as_cancelled(self, store: Store) -> None:
        """A piece that was parked for crashing had counted as failed; cancelled, it counts as what it is."""
        id, _ = split(store, 2)
        run = leaves(store, 1, worker="w.1")[0]
        store.reap("w.1", crashed=[run.id], crash_limit=1)
        assert tally(store, id) == (1, 0, 1, 0)
        assert store.cancel(only(run.id), reason="no") == 1
        assert tally(store, id) == (1, 0, 0, 1)

    @pytest.mark.parametrize("end", [completed, failed, cancelled])
    def test_cancel_leaves_finished_jobs(self, store: Store, end: End) -> None:
        """Cancels unfinished jobs, and only those."""
        run = running(store)
        settle(store, end(run))
        before = record(store, run.id)
        assert store.cancel(only(run.id), reason="too late") == 0
        assert record(store, run.id) == before

    def test_cancel_touches_up_to_its_limit(self, store: Store) -> None:
        """Cancels up to `limit` jobs."""
        store.add([a_job() for _ in range(5)])
        assert store.cancel(EVERYTHING, reason="no", limit=2) == 2
        assert store.count(Filter(state=State.CANCELLED)) == 2
        assert store.cancel(EVERYTHING, reason="no", limit=10) == 3

    def test_cancel_passes_those_that_were_asked(self, store: Store) -> None:
        """With a limit, repeated calls come to an end: who was asked to stop is not asked again."""
        store.add([a_job() for _ in range(5)])
        fetch(store, 3)
        touched = [store.cancel(EVERYTHING, reason="no", limit=2) for _ in range(4)]
        assert touched == [2, 2, 1, 0]

    def test_cancel_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        split(store, 2)
        add(store)
        running(store, priority=-1)
        store.cancel(EVERYTHING, reason="no")
        before = snapshot(store)
        store.cancel(EVERYTHING, reason="no")
        assert snapshot(store) == before

    def test_a_waiting_split_takes_its_batch_along(self, store: Store) -> None:
        """One that waits for a batch takes the batch along."""
        id, pieces = split(store, 3)
        settle(store, completed(leaves(store, 1)[0]))
        assert store.cancel(only(id), reason="no longer wanted") == 1
        assert (state(store, id), record(store, id).reason) == (State.CANCELLED, "no longer wanted")
        assert batch(store, id).state is BatchState.STOPPED
        assert leaves(store) == []
        assert states(store, pieces) == [State.COMPLETED, State.CANCELLED, State.CANCELLED]
        assert tally(store, id) == (0, 1, 0, 2)

    def test_a_cancelled_split_is_not_released(self, store: Store) -> None:
        """Its running pieces may still settle; nothing is released by them."""
        id, _ = split(store, 2)
        first, second = leaves(store)
        store.cancel(only(id), reason="no")
        assert store.settle([completed(first), failed(second)]) == [Answer.OK, Answer.OK]
        assert tally(store, id) == (0, 1, 1, 0)
        assert (state(store, id), batch(store, id).state) == (State.CANCELLED, BatchState.STOPPED)
        assert fetch(store) == []

    def test_a_waiting_split_takes_all_below_along(self, store: Store) -> None:
        """And all below it."""
        root, inner, pieces = nest(store)
        store.cancel(only(root), reason="no")
        assert fetch(store, 10) == []
        assert states(store, [root, inner, *pieces]) == [State.CANCELLED] * 4
        assert (batch(store, root).state, batch(store, inner).state) == (BatchState.STOPPED, BatchState.STOPPED)
        assert tally(store, root) == (0, 0, 0, 1)

    def test_a_splitter_between_two_runs_takes_its_pieces_along(self, store: Store) -> None:
        """A splitter that was to be tried again takes along what it had offered."""
        run = splitting(store)
        pieces = offer(store, run, pieces_of(run, 2))
        settle(store, retried(run))
        store.cancel(only(run.id), reason="no")
        assert leaves(store) == []
        assert states(store, [run.id, *pieces]) == [State.CANCELLED] * 3

    def test_an_inner_splitter_between_two_runs_takes_its_pieces_along(self, store: Store) -> None:
        """All below it: the pieces of an inner splitter that was to be tried again, too."""
        run = splitting(store)
        (inner,) = offer(store, run, pieces_of(run, 1, queue=SPLITS))
        settle(store, waiting(run, 1))
        inner_run = fetch_one(store, queue=SPLITS)
        pieces = offer(store, inner_run, pieces_of(inner_run, 2))
        settle(store, retried(inner_run))
        store.cancel(only(run.id), reason="no")
        assert fetch(store, 10) == []
        assert states(store, [run.id, inner, *pieces]) == [State.CANCELLED] * 4

    def test_an_inner_splitter_that_runs_offers_no_more(self, store: Store) -> None:
        """All below it: an inner splitter that still splits is asked to stop, and its batch takes no further piece."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1, queue=SPLITS))
        settle(store, waiting(run, 1))
        inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        pieces = offer(store, inner_run, pieces_of(inner_run, 2))
        store.cancel(only(run.id), reason="no")
        assert leaves(store) == []
        assert states(store, pieces) == [State.CANCELLED] * 2
        assert store.report("splitter.1", {}) == [inner_run.id]
        with pytest.raises(JobCancelled):
            offer(store, inner_run, pieces_of(inner_run, 1, first=2))
        assert settle(store, waiting(inner_run, 2)) is Answer.OK
        assert state(store, inner_run.id) is State.CANCELLED

    @pytest.mark.parametrize("answer", [cancelled, retried, released])
    def test_a_splitter_that_stops_takes_its_pieces_along(self, store: Store, answer: End) -> None:
        """A splitter that was asked to stop and does takes along what it had offered."""
        run = splitting(store)
        pieces = offer(store, run, pieces_of(run, 2))
        store.cancel(only(run.id), reason="no")
        assert settle(store, answer(run)) is Answer.OK
        assert (state(store, run.id), batch(store, run.id).state) == (State.CANCELLED, BatchState.STOPPED)
        assert leaves(store) == []
        assert states(store, pieces) == [State.CANCELLED] * 2

    def test_a_splitter_that_was_asked_to_stop_does_not_wait(self, store: Store) -> None:
        """A splitter that came to its end all the same is cancelled with its pieces."""
        run = splitting(store)
        pieces = offer(store, run, pieces_of(run, 2))
        store.cancel(only(run.id), reason="no")
        assert settle(store, waiting(run, 2)) is Answer.OK
        assert (state(store, run.id), batch(store, run.id).state) == (State.CANCELLED, BatchState.STOPPED)
        assert leaves(store) == []
        assert states(store, pieces) == [State.CANCELLED] * 2

    def test_a_cancelled_continuation_stops_its_loose_batch(self, store: Store) -> None:
        """One that waits for a batch that is not sealed takes it along, too."""
        id, pieces = loose_batch(store)
        store.cancel(only(id), reason="no")
        assert batch(store, id).state is BatchState.STOPPED
        assert leaves(store) == []
        assert states(store, [id, *pieces]) == [State.CANCELLED] * 3

    def test_a_batch_without_a_continuation_is_stopped_by_its_id(self, store: Store) -> None:
        """The id of a batch without a continuation stops that batch."""
        id = new_id()
        pieces = store.add([a_job(queue=LEAVES, batch=id, ordinal=n) for n in range(3)], batch=NewBatch(id=id))
        run = leaves(store, 1, worker="w.1")[0]
        assert store.cancel(only(id), reason="no") == 1
        assert batch(store, id).state is BatchState.STOPPED
        assert leaves(store) == []
        assert states(store, pieces[1:]) == [State.CANCELLED] * 2
        assert store.report("w.1", {}) == [run.id]
        assert store.cancel(only(id), reason="no") == 0

    def test_a_cancelled_piece_counts(self, store: Store) -> None:
        """A piece that is cancelled ends: as the last one, it ends its batch."""
        id, pieces = split(store, 1, OnFailure.COMPOSE)
        store.cancel(only(*pieces), reason="no")
        assert tally(store, id) == (0, 0, 0, 1)
        assert state(store, id) is State.AVAILABLE

    def test_a_cancelled_inner_split_counts(self, store: Store) -> None:
        """An inner split that is cancelled is a cancelled piece of the batch above."""
        root, inner, _ = nest(store)
        store.cancel(only(inner), reason="no")
        assert (state(store, inner), state(store, root)) == (State.CANCELLED, State.FAILED)
        assert tally(store, root) == (0, 0, 0, 1)
        assert fetch(store, 10) == []

    def test_cancelling_a_whole_tree_cancels_its_root(self, store: Store) -> None:
        """Cancelled with its pieces in one call, a split is cancelled, not failed by them."""
        root, inner, pieces = nest(store)
        store.cancel(EVERYTHING, reason="no")
        assert states(store, [root, inner, *pieces]) == [State.CANCELLED] * 4

    def test_a_thousand_pieces_and_more(self, store: Store) -> None:
        """The batch and all below it, however many."""
        id, _ = split(store, 2500)
        store.cancel(only(id), reason="no", limit=1)
        assert leaves(store) == []
        assert tally(store, id) == (0, 0, 0, 2500)


class ResumeConformance(Conformance):
    """Going on after a stop: `retry` with `resume`."""

    def test_only_what_was_cancelled_comes_back(self, store: Store) -> None:
        """With `resume`, only what was cancelled comes back: what failed by itself, or is parked, stays as it is."""
        ran = [running(store) for _ in range(2)]
        settle(store, failed(ran[0]))
        settle(store, parked(ran[1]))
        stopped = add(store)
        store.cancel(only(stopped), reason="x", by="ann")
        assert store.retry(EVERYTHING, resume=True) == 1
        assert states(store, [ran[0].id, ran[1].id, stopped]) == [State.FAILED, State.PARKED, State.AVAILABLE]
        found = record(store, stopped)
        assert (found.stopped_by, found.stopped_at, found.reason) == (None, None, None)

    def test_a_stopped_tree_goes_on_where_it_was(self, store: Store) -> None:
        """What had completed is not run again, and what had failed by itself stays failed."""
        id, pieces = split(store, 4, OnFailure.COMPOSE)
        first, second = leaves(store, 2)
        store.settle([completed(first), failed(second)])
        store.cancel(only(id), reason="x", by="ann")
        assert store.retry(only(id), resume=True) == 1
        assert states(store, [id, *pieces]) == [
            State.WAITING, State.COMPLETED, State.FAILED, State.AVAILABLE, State.AVAILABLE,
        ]  # fmt: skip
        complete_leaves(store)
        assert tally(store, id) == (0, 3, 1, 0)
        assert compose(store, id).id == id

    def test_a_nested_tree_goes_on_in_all_its_depth(self, store: Store) -> None:
        id, inner, pieces = nest(store)
        store.cancel(only(id), reason="x")
        assert set(states(store, [id, inner, *pieces])) == {State.CANCELLED}
        store.retry(only(id), resume=True)
        assert states(store, [id, inner]) == [State.WAITING, State.WAITING]
        assert set(states(store, pieces)) == {State.AVAILABLE}

    def test_resume_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        id, _ = split(store, 2)
        store.cancel(only(id), reason="x")
        store.retry(only(id), resume=True)
        before = snapshot(store, id)
        assert store.retry(only(id), resume=True) == 0
        assert snapshot(store, id) == before


class RetryConformance(Conformance):
    """Making jobs that ended begin anew."""

    def test_a_failed_job_is_available_again(self, store: Store, clock: FrozenClock) -> None:
        """Makes failed jobs available again, attempts begun anew; returns how many."""
        run = running(store)
        settle(store, retried(run))
        settle(store, failed(fetch_one(store)))
        clock.advance(100)
        assert store.retry(only(run.id)) == 1
        found = record(store, run.id)
        assert (found.state, found.attempt, found.run) == (State.AVAILABLE, 0, 2)
        assert found.finished_at is None
        again = fetch_one(store)
        assert (again.run, again.attempt) == (3, 0)
        assert [line.outcome for line in store.attempts(run.id)] == ["retry", "failed"]

    @pytest.mark.parametrize("end", [cancelled, parked])
    def test_a_cancelled_or_parked_job_is_available_again(self, store: Store, end: End) -> None:
        """Cancelled or parked jobs, too."""
        run = running(store)
        settle(store, end(run))
        assert store.retry(EVERYTHING) == 1
        assert (state(store, run.id), record(store, run.id).reason) == (State.AVAILABLE, None)
        assert fetch_one(store).id == run.id

    def test_retry_leaves_all_others(self, store: Store) -> None:
        """Failed, cancelled or parked jobs, and only those."""
        store.add([a_job() for _ in range(3)])
        settle(store, completed(fetch(store)[0]))
        fetch(store)
        add(store, delay=60)
        before = snapshot(store)
        assert store.retry(EVERYTHING) == 0
        assert snapshot(store) == before

    def test_retry_touches_up_to_its_limit(self, store: Store) -> None:
        """Makes up to `limit` jobs available."""
        store.add([a_job() for _ in range(5)])
        store.settle([failed(run) for run in fetch(store, 5)])
        assert store.retry(EVERYTHING, limit=2) == 2
        assert store.count(Filter(state=State.AVAILABLE)) == 2
        assert store.retry(Filter(state=State.FAILED), limit=10) == 3

    def test_retry_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        id, pieces = split(store, 2)
        finish_with(store, failed, of=2)
        assert store.retry(only(pieces[0])) == 1
        before = snapshot(store, id)
        assert store.retry(only(pieces[0])) == 0
        assert snapshot(store, id) == before

    def test_a_settlement_of_before_the_retry_changes_nothing(self, store: Store) -> None:
        """The same settlement sent again changes nothing, even after a retry."""
        run = running(store)
        settle(store, failed(run))
        store.retry(only(run.id))
        assert settle(store, failed(run)) is not Answer.OK
        assert state(store, run.id) is State.AVAILABLE

    def test_a_failed_piece_opens_its_batch_again(self, store: Store) -> None:
        """A failed piece opens its batch again: the split waits, and is released when the piece is good."""
        id, pieces = split(store, 3)
        finish_with(store, failed, which=1)
        assert state(store, id) is State.FAILED
        assert store.retry(only(pieces[1])) == 1
        found = batch(store, id)
        assert (found.state, found.sealed, found.finished_at) == (BatchState.OPEN, True, None)
        assert tally(store, id) == (1, 2, 0, 0)
        assert (state(store, id), record(store, id).error) == (State.WAITING, None)
        settle(store, completed(fetch_one(store)))
        assert batch(store, id).state is BatchState.DONE
        compose(store, id)
        assert fetch(store) == []

    def test_a_piece_may_fail_again(self, store: Store) -> None:
        """A piece that is retried and fails again fails its batch again."""
        id, pieces = split(store, 1)
        for _ in range(3):
            settle(store, failed(leaves(store)[0]))
            assert (batch(store, id).state, state(store, id)) == (BatchState.FAILED, State.FAILED)
            assert tally(store, id) == (0, 0, 1, 0)
            assert store.retry(only(pieces[0])) == 1
        assert state(store, id) is State.WAITING

    def test_and_so_on_up_to_the_root(self, store: Store) -> None:
        """And so on up to the root."""
        root, inner, pieces = nest(store)
        finish_with(store, failed, of=2)
        assert states(store, [root, inner]) == [State.FAILED, State.FAILED]
        assert store.retry(only(pieces[0])) == 1
        assert states(store, [root, inner]) == [State.WAITING, State.WAITING]
        assert (tally(store, root), tally(store, inner)) == ((1, 0, 0, 0), (1, 1, 0, 0))
        complete_leaves(store)
        compose(store, inner)
        compose(store, root)

    def test_a_failed_piece_of_a_batch_that_is_still_open(self, store: Store) -> None:
        """A failed piece may be retried before its batch has come to its end."""
        id, pieces = split(store, 2)
        first, second = leaves(store)
        settle(store, failed(first))
        assert store.retry(only(pieces[0])) == 1
        assert tally(store, id) == (2, 0, 0, 0)
        settle(store, completed(second))
        assert state(store, id) is State.WAITING
        complete_leaves(store)
        assert state(store, id) is State.AVAILABLE

    def test_a_parked_piece_goes_on(self, store: Store) -> None:
        """A parked piece had kept its batch open; retried, it is still one open piece."""
        id, pieces = split(store, 1)
        settle(store, parked(leaves(store)[0]))
        assert store.retry(only(pieces[0])) == 1
        assert tally(store, id) == (1, 0, 0, 0)
        complete_leaves(store)
        assert state(store, id) is State.AVAILABLE

    @pytest.mark.parametrize("policy", list(OnFailure))
    def test_a_piece_of_a_batch_that_has_composed_stays_as_it_is(self, store: Store, policy: OnFailure) -> None:
        """A piece of a batch that has composed stays as it is."""
        id, pieces = split(store, 2, policy)
        finish_with(store, failed if policy is OnFailure.COMPOSE else completed, of=2)
        compose(store, id)
        before = snapshot(store, id)
        assert store.retry(only(*pieces)) == 0
        assert snapshot(store, id) == before

    @pytest.mark.parametrize("policy", [OnFailure.FINISH, OnFailure.FAIL_FAST])
    def test_a_split_takes_its_failed_pieces_along(self, store: Store, policy: OnFailure) -> None:
        """A split whose pieces failed or were cancelled waits again, and takes those pieces along."""
        id, pieces = split(store, 3, policy)
        first = leaves(store, 1)[0]
        settle(store, completed(first))
        settle(store, failed(leaves(store, 1)[0]))
        if policy is OnFailure.FINISH:
            store.cancel(only(pieces[2]), reason="no")
        else:
            assert leaves(store) == []
        assert state(store, id) is State.FAILED
        assert store.retry(only(id)) == 1
        assert (state(store, id), batch(store, id).state) == (State.WAITING, BatchState.OPEN)
        assert states(store, pieces) == [State.COMPLETED, State.AVAILABLE, State.AVAILABLE]
        assert tally(store, id) == (2, 1, 0, 0)
        complete_leaves(store)
        compose(store, id)
        assert record(store, pieces[0]).run == first.run

    def test_a_cancelled_split_takes_its_pieces_along(self, store: Store) -> None:
        """The same for a split that was cancelled."""
        id, pieces = split(store, 2)
        store.cancel(only(id), reason="no")
        assert leaves(store) == []
        assert store.retry(only(id)) == 1
        assert (state(store, id), states(store, pieces)) == (State.WAITING, [State.AVAILABLE] * 2)
        complete_leaves(store)
        compose(store, id)

    def test_a_split_takes_all_below_along(self, store: Store) -> None:
        """Pieces that are splits take theirs along."""
        root, inner, pieces = nest(store)
        store.cancel(only(root), reason="no")
        assert fetch(store, 10) == []
        assert store.retry(only(root)) == 1
        assert states(store, [root, inner, *pieces]) == [State.WAITING, State.WAITING, State.AVAILABLE, State.AVAILABLE]
        complete_leaves(store)
        compose(store, inner)
        compose(store, root)

    def test_the_pieces_that_are_taken_along_are_not_limited(self, store: Store) -> None:
        """`limit` is about the jobs that match: a split takes all its pieces along."""
        id, pieces = split(store, 3)
        store.settle([failed(run) for run in leaves(store)])
        assert store.retry(only(id), limit=1) == 1
        assert states(store, pieces) == [State.AVAILABLE] * 3
        assert tally(store, id) == (3, 0, 0, 0)

    def test_more_than_a_thousand_pieces_are_taken_along(self, store: Store) -> None:
        """A split takes its pieces along, however many."""
        id, _ = split(store, 1500)
        store.settle([failed(run) for run in leaves(store, 1500)])
        assert store.retry(only(id)) == 1
        assert tally(store, id) == (1500, 0, 0, 0)

    def test_a_split_whose_pieces_have_all_completed_is_released(self, store: Store) -> None:
        """Cancelled while its last pieces ran, and they completed: retried, nothing is left to wait for."""
        id, _ = split(store, 1)
        run = leaves(store)[0]
        store.cancel(only(id), reason="no")
        settle(store, completed(run))
        assert store.retry(only(id)) == 1
        assert (batch(store, id).state, state(store, id)) == (BatchState.DONE, State.AVAILABLE)
        compose(store, id)

    def test_a_splitter_that_failed_splits_again(self, store: Store) -> None:
        """A split that failed before it was sealed is available, its batch open, its pieces begin anew."""
        run = splitting(store)
        pieces = offer(store, run, pieces_of(run, 2))
        settle(store, failed(run))
        assert leaves(store) == []
        assert store.retry(only(run.id)) == 1
        assert (state(store, run.id), batch(store, run.id).state) == (State.AVAILABLE, BatchState.OPEN)
        assert states(store, pieces) == [State.AVAILABLE] * 2
        again = fetch_one(store, queue=SPLITS)
        assert again.cursor is None
        assert offer(store, again, pieces_of(again, 2)) == pieces
        settle(store, waiting(again, 2))
        complete_leaves(store)
        compose(store, run.id)

    def test_a_continuation_that_was_cancelled_waits_again(self, store: Store) -> None:
        """A job that never ran and waits for a batch that is not sealed waits again: it is no splitter."""
        id, pieces = loose_batch(store)
        store.cancel(only(id), reason="no")
        assert store.retry(only(id)) == 1
        assert (state(store, id), batch(store, id).state) == (State.WAITING, BatchState.OPEN)
        assert states(store, pieces) == [State.AVAILABLE] * 2
        assert fetch(store, queue=SPLITS) == []
        complete_leaves(store)
        store.seal(id)
        assert fetch_one(store, queue=SPLITS).id == id

    def test_a_compose_that_failed_composes_again(self, store: Store) -> None:
        """A split that failed while composing is available again, and composes; its pieces stay as they are."""
        id, pieces = split(store, 2)
        complete_leaves(store)
        settle(store, failed(fetch_one(store, queue=SPLITS)))
        assert store.retry(only(id)) == 1
        again = fetch_one(store)
        assert (again.id, again.cursor) == (id, "compose")
        assert states(store, pieces) == [State.COMPLETED] * 2
        assert batch(store, id).state is BatchState.DONE

    def test_a_failed_compose_that_is_a_piece_opens_the_batch_above(self, store: Store) -> None:
        """A failed piece opens its batch again, be it a split that failed while composing."""
        root, inner, _ = nest(store)
        complete_leaves(store)
        settle(store, failed(fetch_one(store, queue=SPLITS)))
        assert state(store, root) is State.FAILED
        assert store.retry(only(inner)) == 1
        assert (state(store, root), tally(store, root)) == (State.WAITING, (1, 0, 0, 0))
        compose(store, inner)
        compose(store, root)

    def test_a_unique_key_that_is_taken(self, store: Store) -> None:
        """A job whose unique key is carried by another unfinished job stays as it is."""
        run = running(store, key="k")
        settle(store, failed(run))
        other = add(store, key="k")
        before = snapshot(store)
        assert store.retry(only(run.id)) == 0
        assert snapshot(store) == before
        store.cancel(only(other), reason="no")
        assert store.retry(only(run.id)) == 1

    def test_a_unique_key_is_taken_by_the_first_that_is_retried(self, store: Store) -> None:
        """Of two failed jobs with one key, one comes back."""
        for _ in range(2):
            settle(store, failed(running(store, key="k")))
        assert store.retry(EVERYTHING) == 1
        assert store.count(Filter(key="k", state=State.AVAILABLE)) == 1

    def test_a_retried_job_carries_its_unique_key_again(self, store: Store) -> None:
        """A job that is available again is unfinished."""
        run = running(store, key="k")
        settle(store, failed(run))
        store.retry(only(run.id))
        assert add(store, key="k") == run.id

    def test_a_taken_key_above_keeps_a_piece_where_it_is(self, store: Store) -> None:
        """A piece whose split cannot wait again, because its key is carried by another, stays as it is."""
        id, pieces = split(store, 1, key="k")
        settle(store, failed(leaves(store)[0]))
        other = add(store, key="k", queue=LEAVES)
        assert other != id
        before = snapshot(store, id)
        assert store.retry(only(pieces[0])) == 0
        assert snapshot(store, id) == before

    def test_a_piece_below_a_parked_split_of_a_batch_that_has_ended_stays_as_it_is(self, store: Store) -> None:
        """A parked piece of a batch that has ended stays as it is, and so does what is below it."""
        run = splitting(store)
        inner, _ = offer(store, run, pieces_of(run, 2, queue=SPLITS), OnFailure.FAIL_FAST)
        settle(store, waiting(run, 2))
        inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        pieces = offer(store, inner_run, pieces_of(inner_run, 2))
        settle(store, parked(inner_run))
        settle(store, failed(fetch_one(store, queue=SPLITS)))
        assert fetch(store, 10) == []
        assert states(store, [run.id, inner, *pieces]) == [State.FAILED, State.PARKED, State.CANCELLED, State.CANCELLED]
        before = snapshot(store, run.id, inner)
        assert store.retry(only(*pieces)) == 0
        assert snapshot(store, run.id, inner) == before

    def test_a_parked_piece_whose_tree_was_pruned(self, store: Store, clock: FrozenClock) -> None:
        """Where nobody waits for it any more, it is a job like others."""
        run = splitting(store)
        (piece,) = offer(store, run, pieces_of(run, 1))
        settle(store, parked(leaves(store)[0]))
        settle(store, waiting(run, 1))
        store.cancel(only(run.id), reason="no")
        clock.advance(10)
        assert store.prune(before=clock.now()) == 1
        assert store.retry(only(piece)) == 1
        assert fetch_one(store, queue=LEAVES).id == piece

    def test_two_failed_pieces_are_retried_one_by_one(self, store: Store) -> None:
        """A `fail_fast` batch that was opened again fails when a piece fails, not for one that failed before."""
        id, pieces = split(store, 3, OnFailure.FAIL_FAST)
        runs = leaves(store)
        store.settle([failed(runs[0])])
        store.settle([failed(runs[1])])
        store.settle([completed(runs[2])])
        assert store.retry(only(pieces[0])) == 1
        store.repair(limit=100)
        assert (state(store, pieces[0]), batch(store, id).state) == (State.AVAILABLE, BatchState.OPEN)
        assert store.retry(only(pieces[1])) == 1
        complete_leaves(store)
        compose(store, id)


class PruneConformance(Conformance):
    """Deleting what is past its keep."""

    def test_prune_deletes_what_ended_before(self, store: Store, clock: FrozenClock) -> None:
        """Deletes jobs that completed or were cancelled before a moment, and returns how many."""
        old, dropped = running(store), add(store)
        settle(store, completed(old))
        store.cancel(only(dropped), reason="no")
        clock.advance(100)
        young = running(store)
        settle(store, completed(young))
        assert store.prune(before=clock.now() - 50) == 2
        assert [job.id for job in everything(store)] == [young.id]

    def test_prune_counts_from_completion(self, store: Store, clock: FrozenClock) -> None:
        """What counts is when the job ended, not when it was added."""
        run = running(store)
        clock.advance(100)
        settle(store, completed(run))
        assert store.prune(before=clock.now()) == 0
        assert store.prune(before=clock.now() + 1) == 1

    def test_prune_deletes_up_to_its_limit(self, store: Store, clock: FrozenClock) -> None:
        """Deletes up to `limit` jobs."""
        store.add([a_job() for _ in range(5)])
        store.settle([completed(run) for run in fetch(store, 5)])
        clock.advance(1)
        assert [store.prune(before=clock.now(), limit=2) for _ in range(3)] == [2, 2, 1]
        assert everything(store) == []

    def test_failed_and_parked_jobs_are_kept(self, store: Store, clock: FrozenClock) -> None:
        """Failed and parked jobs are kept."""
        store.add([a_job(), a_job()])
        first, second = fetch(store, 2)
        store.settle([failed(first), parked(second)])
        clock.advance(1e9)
        assert store.prune(before=clock.now()) == 0

    def test_unfinished_jobs_are_kept(self, store: Store, clock: FrozenClock) -> None:
        """What has not ended is not deleted, however old."""
        split(store, 1)
        add(store)
        running(store, priority=-1)
        clock.advance(1e9)
        assert store.prune(before=clock.now()) == 0

    def test_a_piece_is_kept_while_its_root_is_unfinished(self, store: Store, clock: FrozenClock) -> None:
        """A piece is kept while its root is unfinished: the compose will read it."""
        id, _ = split(store, 3)
        for run in leaves(store, 2):
            settle(store, completed(run))
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        complete_leaves(store)
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        assert len(store.pieces(id)) == 3

    @pytest.mark.parametrize("rooted", [True, False])
    def test_a_piece_is_kept_while_its_batch_is_open(self, store: Store, clock: FrozenClock, rooted: bool) -> None:
        """The pieces of a batch without a splitter are kept until what follows the batch has ended."""
        then = a_job(state=State.WAITING, queue=SPLITS)
        id = new_id()
        store.add([then], batch=NewBatch(id=id, then=then.id))
        root = id if rooted else None
        store.add([a_job(queue=LEAVES, batch=id, root=root, ordinal=n) for n in range(2)])
        settle(store, completed(leaves(store, 1)[0]))
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        store.seal(id)
        complete_leaves(store)
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        assert len(store.pieces(id)) == 2
        settle(store, completed(fetch_one(store)))
        clock.advance(100)
        while store.prune(before=clock.now()):
            pass
        assert everything(store) == []
        assert store.batch(id) is None

    def test_a_piece_is_kept_while_its_batch_without_a_continuation_is_open(
        self, store: Store, clock: FrozenClock
    ) -> None:
        """A batch that nothing follows keeps its pieces until it has ended."""
        id = new_id()
        store.add([a_job(queue=LEAVES, batch=id, ordinal=n) for n in range(2)], batch=NewBatch(id=id))
        store.seal(id)
        settle(store, completed(leaves(store, 1)[0]))
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        complete_leaves(store)
        clock.advance(100)
        assert store.prune(before=clock.now()) == 2

    def test_a_leaf_is_kept_while_the_root_is_unfinished(self, store: Store, clock: FrozenClock) -> None:
        """The root is the one at the top."""
        _, inner, _ = nest(store)
        complete_leaves(store)
        compose(store, inner)
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0

    def test_the_pieces_of_a_failed_split_are_kept(self, store: Store, clock: FrozenClock) -> None:
        """A failed split is kept, and whoever retries it needs its completed pieces."""
        id, _ = split(store, 3)
        finish_with(store, failed, which=2)
        clock.advance(100)
        assert store.prune(before=clock.now()) == 0
        store.retry(only(id))
        complete_leaves(store)
        assert [piece.state for piece in store.pieces(id)] == [State.COMPLETED] * 3
        compose(store, id)

    def test_a_finished_tree_is_deleted_whole(self, store: Store, clock: FrozenClock) -> None:
        """When the root has ended, the pieces go with it, and so does the batch."""
        root, inner, _ = nest(store)
        complete_leaves(store)
        compose(store, inner)
        compose(store, root)
        clock.advance(100)
        while store.prune(before=clock.now()):
            pass
        assert everything(store) == []
        assert (store.batch(root), store.batch(inner)) == (None, None)

    def test_prune_takes_the_history_along(self, store: Store, clock: FrozenClock) -> None:
        """Of a job that was deleted nothing is left."""
        run = running(store)
        settle(store, retried(run))
        settle(store, completed(fetch_one(store)))
        clock.advance(1)
        assert store.prune(before=clock.now()) == 1
        assert store.attempts(run.id) == []
        assert store.get([run.id]) == []
        assert settle(store, completed(run)) is Answer.STALE

    def test_prune_sent_twice_has_the_same_end_state(self, store: Store, clock: FrozenClock) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        store.add([a_job() for _ in range(3)])
        store.settle([completed(run) for run in fetch(store, 2)])
        clock.advance(1)
        store.prune(before=clock.now())
        before = snapshot(store)
        assert store.prune(before=clock.now()) == 0
        assert snapshot(store) == before


class RepairConformance(Conformance):
    """The sweeper."""

    def test_repair_finds_nothing_in_a_sound_store(self, store: Store) -> None:
        """Derives the counters of open batches again, and returns what it mended: nothing, where nothing is wrong."""
        split(store, 3)
        loose_batch(store)
        nest(store)
        settle(store, completed(leaves(store, 1)[0]))
        before = snapshot(store)
        assert store.repair(limit=100) == []
        assert store.repair(limit=1) == []
        assert snapshot(store) == before

    def test_repair_finds_nothing_in_an_empty_store(self, store: Store) -> None:
        """Nor in an empty one."""
        assert store.repair() == []


class PauseConformance(Conformance):
    """Pausing queues."""

    def test_pause_stops_fetching(self, store: Store) -> None:
        """Stops the fetching of one queue."""
        id = add(store, queue="a")
        store.pause("a")
        assert fetch(store) == []
        assert state(store, id) is State.AVAILABLE

    def test_pause_resumes_fetching(self, store: Store) -> None:
        """Or resumes it."""
        id = add(store, queue="a")
        store.pause("a")
        store.pause("a", False)
        assert fetch_one(store).id == id

    def test_what_runs_goes_on(self, store: Store) -> None:
        """What runs goes on."""
        run = running(store, queue="a", worker="w.1")
        store.pause("a")
        assert store.report("w.1", {}) == []
        assert settle(store, completed(run)) is Answer.OK

    def test_a_claim_that_was_answered_is_answered_in_a_paused_queue(self, store: Store) -> None:
        """A claim that was answered before the pause gets its jobs again."""
        from piecework.testing.conformance.kit import a_claim

        add(store)
        claim = a_claim()
        first = store.fetch(claim)
        store.pause("default")
        assert store.fetch(claim) == first

    def test_paused_lists_the_queues(self, store: Store) -> None:
        """The queues that are paused."""
        assert store.paused() == []
        store.pause("b")
        store.pause("a")
        assert sorted(store.paused()) == ["a", "b"]
        store.pause("b", False)
        assert store.paused() == ["a"]

    def test_pause_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        store.pause("a")
        store.pause("a")
        assert store.paused() == ["a"]
        store.pause("a", False)
        store.pause("a", False)
        assert store.paused() == []

    def test_a_queue_without_jobs_may_be_paused(self, store: Store) -> None:
        """A queue is a name: it may be paused before it has jobs."""
        store.pause("later")
        add(store, queue="later")
        assert fetch(store) == []

    def test_the_error_of_a_paused_queues_job_is_kept(self, store: Store) -> None:
        """A run that ends in a paused queue leaves what it would anywhere."""
        run = running(store, queue="a")
        store.pause("a")
        settle(store, failed(run))
        assert record(store, run.id).error == BAD_BODY
