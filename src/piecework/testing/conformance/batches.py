"""What fan-in promises: a compose starts only after the last piece settled, and is released exactly once."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from piecework.errors import SplitChanged
from piecework.ids import new_id
from piecework.job import Answer, BatchState, Fetched, Filter, NewBatch, OnFailure, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    LEAVES,
    SPLITS,
    Conformance,
    End,
    a_claim,
    a_job,
    add,
    add_continuation,
    assert_named_as_failed,
    batch,
    cancelled,
    complete_leaves,
    completed,
    compose,
    ended,
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
    settle,
    snapshot,
    split,
    splitting,
    state,
    states,
    tally,
    together,
    waiting,
)


class FanInConformance(Conformance):
    """Counting pieces and releasing what follows them."""

    @pytest.mark.parametrize(
        ("end", "counted"),
        [(completed, (2, 1, 0, 0)), (failed, (2, 0, 1, 0)), (cancelled, (2, 0, 0, 1))],
        ids=["completed", "failed", "cancelled"],
    )
    def test_a_piece_that_ends_is_counted(self, store: Store, end: End, counted: tuple[int, ...]) -> None:
        """A piece that ends lowers its batch's `open` and raises the counter of its end."""
        id, _ = split(store, 3)
        settle(store, end(leaves(store, 1)[0]))
        assert tally(store, id) == counted
        assert batch(store, id).state is BatchState.OPEN
        assert state(store, id) is State.WAITING

    @pytest.mark.parametrize("end", [retried, released, parked])
    def test_a_piece_that_has_not_ended_is_open(self, store: Store, end: End) -> None:
        """A piece that will be tried again, or that is parked, keeps its batch open."""
        id, _ = split(store, 1)
        settle(store, end(leaves(store, 1)[0]))
        assert tally(store, id) == (1, 0, 0, 0)
        assert state(store, id) is State.WAITING

    def test_a_settlement_sent_twice_is_counted_once(self, store: Store) -> None:
        """The same settlement sent again answers `already` and changes nothing: no counter either."""
        id, _ = split(store, 3)
        run = leaves(store, 1)[0]
        settle(store, completed(run))
        before = snapshot(store, id)
        assert settle(store, completed(run)) is Answer.ALREADY
        assert store.settle([completed(run), completed(run)]) == [Answer.ALREADY] * 2
        assert snapshot(store, id) == before

    def test_a_stale_settlement_is_not_counted(self, store: Store) -> None:
        """Only the run that owns the job changes it, and its batch."""
        id, _ = split(store, 2)
        run = leaves(store, 1, worker="w.1")[0]
        store.reap("w.1")
        assert settle(store, completed(run)) is Answer.STALE
        assert tally(store, id) == (2, 0, 0, 0)

    def test_the_last_piece_releases_the_continuation(self, store: Store, clock: FrozenClock) -> None:
        """When a sealed batch has no open piece left, its continuation is released, in the same transaction."""
        id, _ = split(store, 2)
        first, second = leaves(store)
        settle(store, completed(first))
        assert state(store, id) is State.WAITING
        clock.advance(5)
        settle(store, completed(second))
        found = batch(store, id)
        assert (found.state, found.open, found.finished_at) == (BatchState.DONE, 0, clock.now())
        assert (state(store, id), record(store, id).run_at) == (State.AVAILABLE, clock.now())

    def test_the_released_split_is_the_same_job(self, store: Store) -> None:
        """The store makes the very same job available again, where its cursor says what is next."""
        run = splitting(store, args='["topic"]', options='{"timeout":3}')
        offer(store, run, pieces_of(run, 1))
        settle(store, waiting(run, 1))
        complete_leaves(store)
        again = fetch_one(store, queue=SPLITS)
        assert (again.id, again.run, again.cursor, again.attempt) == (run.id, 2, "compose", 0)
        assert (again.args, again.options) == (run.args, run.options)
        assert settle(store, completed(again, '"whole"')) is Answer.OK
        assert (state(store, run.id), record(store, run.id).result) == (State.COMPLETED, '"whole"')

    def test_one_call_may_settle_all_pieces(self, store: Store) -> None:
        """Pieces that end together count together, and release once."""
        id, _ = split(store, 50)
        assert set(store.settle([completed(run) for run in leaves(store)])) == {Answer.OK}
        assert tally(store, id) == (0, 50, 0, 0)
        compose(store, id)
        assert fetch(store) == []

    def test_one_call_may_settle_pieces_of_many_batches(self, store: Store) -> None:
        """Each batch is counted for itself."""
        ids = [split(store, 2)[0] for _ in range(5)]
        store.settle([completed(run) for run in leaves(store)])
        assert [batch(store, id).state for id in ids] == [BatchState.DONE] * 5
        assert [run.id for run in fetch(store, 10)] == ids

    def test_no_early_release(self, store: Store) -> None:
        """Pieces that complete before the next one is offered release nothing until the batch is sealed."""
        run = splitting(store)
        for n in range(5):
            offer(store, run, pieces_of(run, 1, first=n))
            settle(store, completed(leaves(store, 1)[0], f'"r{n}"'))
            assert state(store, run.id) is State.RUNNING
            assert batch(store, run.id).state is BatchState.OPEN
        settle(store, waiting(run, 5))
        assert [piece.result for piece in store.pieces(run.id)] == [f'"r{n}"' for n in range(5)]
        compose(store, run.id)
        assert fetch(store) == []

    def test_pieces_are_read_in_their_order(self, store: Store) -> None:
        """Whatever the order in which they end, pieces are read in the order in which they were offered."""
        id, _ = split(store, 5)
        runs = leaves(store)
        for n in (3, 0, 4, 1, 2):
            settle(store, completed(runs[n], f'"r{n}"'))
        assert [piece.result for piece in store.pieces(id)] == [f'"r{n}"' for n in range(5)]

    def test_an_empty_split_is_released_by_its_seal(self, store: Store) -> None:
        """A batch without an open piece is finished by being sealed: its compose runs, once."""
        run = splitting(store)
        offer(store, run, [])
        assert settle(store, waiting(run, 0)) is Answer.OK
        found = batch(store, run.id)
        assert (found.state, found.total, found.sealed) == (BatchState.DONE, 0, True)
        compose(store, run.id)
        assert fetch(store) == []

    def test_a_split_that_opened_no_batch_is_released_by_its_seal(self, store: Store) -> None:
        """A splitter without a single piece need not have opened its batch."""
        run = splitting(store)
        assert settle(store, waiting(run, 0)) is Answer.OK
        assert batch(store, run.id).state is BatchState.DONE
        compose(store, run.id)

    def test_a_seal_after_the_last_piece_releases(self, store: Store) -> None:
        """A splitter that settles after all its pieces did is released at once."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        complete_leaves(store)
        assert settle(store, waiting(run, 2)) is Answer.OK
        assert state(store, run.id) is State.AVAILABLE

    def test_a_seal_sent_twice_releases_once(self, store: Store) -> None:
        """The same settlement sent again answers `already` and changes nothing, seals included."""
        run = splitting(store)
        offer(store, run, [])
        settle(store, waiting(run, 0))
        before = snapshot(store, run.id)
        assert settle(store, waiting(run, 0)) is Answer.ALREADY
        assert snapshot(store, run.id) == before
        compose(store, run.id)
        settle(store, waiting(run, 0))
        assert state(store, run.id) is State.COMPLETED

    def test_settled_is_settled(self, store: Store) -> None:
        """A piece that is settled again, before or after the compose, releases nothing and changes nothing."""
        id, _ = split(store, 2)
        runs = leaves(store)
        store.settle([completed(run) for run in runs])
        store.settle([failed(run) for run in runs])
        compose(store, id)
        before = snapshot(store, id)
        assert store.settle([completed(run, '"other"') for run in runs]) == [Answer.ALREADY] * 2
        assert snapshot(store, id) == before
        assert fetch(store) == []

    def test_a_composer_that_died_runs_again(self, store: Store) -> None:
        """A compose that was handed back is fetched again; its answer of before is refused."""
        id, _ = split(store, 1)
        complete_leaves(store)
        first = fetch_one(store, worker="w.1", queue=SPLITS)
        store.reap("w.1")
        second = fetch_one(store, worker="w.2", queue=SPLITS)
        assert (second.id, second.run, second.cursor) == (id, 3, "compose")
        assert settle(store, completed(first, '"first"')) is Answer.STALE
        assert settle(store, completed(second, '"second"')) is Answer.OK
        assert record(store, id).result == '"second"'

    def test_a_compose_that_is_retried_is_not_split_again(self, store: Store) -> None:
        """A compose that is tried again keeps its cursor."""
        id, _ = split(store, 1)
        complete_leaves(store)
        settle(store, retried(fetch_one(store, queue=SPLITS)))
        again = fetch_one(store, queue=SPLITS)
        assert (again.id, again.cursor, again.attempt) == (id, "compose", 1)

    def test_the_released_job_may_go_elsewhere(self, store: Store) -> None:
        """A batch may say in which queue, and with which priority, its continuation runs."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1), then_queue="elsewhere", then_priority=-7)
        settle(store, waiting(run, 1))
        complete_leaves(store)
        found = record(store, run.id)
        assert (found.queue, found.priority, found.state) == ("elsewhere", -7, State.AVAILABLE)
        assert fetch_one(store, queue="elsewhere").id == run.id

    def test_the_released_job_stays_where_it_was(self, store: Store) -> None:
        """Without such a wish, the queue and the priority are the job's own."""
        run = splitting(store, priority=6)
        offer(store, run, [])
        settle(store, waiting(run, 0))
        assert (record(store, run.id).queue, record(store, run.id).priority) == (SPLITS, 6)

    def test_a_batch_without_a_continuation_ends(self, store: Store) -> None:
        """A batch need not release anything: it is done when its pieces are."""
        store.add([a_job(queue=LEAVES, batch="b", ordinal=n) for n in range(2)], batch=NewBatch(id="b"))
        store.seal("b")
        complete_leaves(store)
        assert batch(store, "b").state is BatchState.DONE
        assert fetch(store) == []

    def test_a_batch_without_a_continuation_fails(self, store: Store) -> None:
        """Nor need it fail anything."""
        store.add([a_job(queue=LEAVES, batch="b", ordinal=n) for n in range(2)], batch=NewBatch(id="b"))
        store.seal("b")
        finish_with(store, failed, of=2)
        assert batch(store, "b").state is BatchState.FAILED

    def test_a_loose_batch_releases_its_continuation(self, store: Store) -> None:
        """A job that was stored waiting runs when the batch it was added with is sealed and its pieces have ended."""
        id, _ = loose_batch(store, 2)
        assert fetch(store, queue=SPLITS) == []
        store.seal(id)
        assert fetch(store, queue=SPLITS) == []
        complete_leaves(store)
        run = fetch_one(store, queue=SPLITS)
        assert (run.id, run.run, run.cursor) == (id, 1, None)

    def test_two_threads_settling_the_last_two_pieces(self, store: Store) -> None:
        """Released once: 200 batches, the last two pieces of each settled at once."""
        for _ in range(200):
            id, _ = split(store, 2)
            first, second = leaves(store)
            answers = together(*[partial(settle, store, completed(run)) for run in (first, second)])
            assert answers == [Answer.OK, Answer.OK]
            assert [run.id for run in fetch(store, 5, queue=SPLITS)] == [id]
        assert store.count(Filter(state=State.WAITING)) == 0

    def test_many_threads_settling_many_pieces(self, store: Store) -> None:
        """Released once: 2,000 pieces settled on 20 threads, each seventh of them twice."""
        id, _ = split(store, 2000)
        runs = leaves(store, 2000)

        def work(mine: list[Fetched]) -> list[Answer]:
            answers: list[Answer] = []
            for start in range(0, len(mine), 10):
                some = [completed(run) for run in mine[start : start + 10]]
                answers += store.settle([*some, *some[::7]])
            return answers

        answers = Counter(
            answer for some in together(*[lambda n=n: work(runs[n::20]) for n in range(20)]) for answer in some
        )
        assert answers == {Answer.OK: 2000, Answer.ALREADY: 400}
        assert tally(store, id) == (0, 2000, 0, 0)
        compose(store, id)
        assert fetch(store) == []

    def test_many_threads_settling_one_piece_each_twice(self, store: Store) -> None:
        """Released once, when every answer is lost once and every thread sends its settlement again."""
        id, _ = split(store, 60)

        def work(worker: str) -> None:
            while runs := leaves(store, 1, worker=worker):
                assert settle(store, completed(runs[0])) is Answer.OK
                assert settle(store, completed(runs[0])) is Answer.ALREADY

        together(*[lambda n=n: work(f"w.{n}") for n in range(6)])
        compose(store, id)
        assert fetch(store) == []

    def test_the_seal_and_the_last_piece_at_once(self, store: Store) -> None:
        """Released once, whichever of the splitter and its last piece settles first."""
        for _ in range(100):
            run = splitting(store)
            offer(store, run, pieces_of(run, 1))
            piece = leaves(store)[0]
            together(*[partial(settle, store, end) for end in (waiting(run, 1), completed(piece))])
            assert [found.id for found in fetch(store, 5, queue=SPLITS)] == [run.id]


class SealedNumberConformance(Conformance):
    """A splitter that runs again must offer what it offered before."""

    def begin_again(self, store: Store, keys: list[str]) -> Fetched:
        run = splitting(store)
        offer(store, run, pieces_of(run, keys))
        settle(store, retried(run))
        return fetch_one(store, queue=SPLITS)

    def test_the_same_pieces_again(self, store: Store) -> None:
        """A splitter that ran twice and offered the same is sealed; each piece runs once."""
        again = self.begin_again(store, ["a", "b"])
        offer(store, again, pieces_of(again, ["a", "b", "c"]))
        assert settle(store, waiting(again, 3)) is Answer.OK
        assert batch(store, again.id).sealed
        assert len(leaves(store)) == 3

    def test_a_piece_that_is_not_offered_again(self, store: Store) -> None:
        """Keys offered by an earlier run but not by this one: the split fails and names them; the answer is `ok`."""
        again = self.begin_again(store, ["a", "left", "over"])
        offer(store, again, pieces_of(again, ["a"]))
        assert settle(store, waiting(again, 1)) is Answer.OK
        found = record(store, again.id)
        assert found.state is State.FAILED
        assert found.error is not None
        assert found.error.type == "SplitChanged"
        assert "left" in found.error.message
        assert "over" in found.error.message
        assert not batch(store, again.id).sealed
        assert settle(store, waiting(again, 1)) is Answer.ALREADY

    def test_a_split_that_changed_composes_nothing(self, store: Store) -> None:
        """A split that failed for its pieces is not released by them."""
        again = self.begin_again(store, ["a", "b"])
        settle(store, waiting(again, 0))
        complete_leaves(store)
        assert fetch(store) == []
        assert state(store, again.id) is State.FAILED

    def test_a_cancelled_piece_is_left_aside(self, store: Store) -> None:
        """Cancelled pieces need not be offered again."""
        again = self.begin_again(store, ["a", "b"])
        store.cancel(Filter(ids=(store.pieces(again.id)[1].id,)), reason="left over")
        offer(store, again, pieces_of(again, ["a"]))
        assert settle(store, waiting(again, 1)) is Answer.OK
        assert (state(store, again.id), batch(store, again.id).sealed) == (State.WAITING, True)

    def test_a_key_twice_in_a_later_run_is_an_error(self, store: Store) -> None:
        """A key that is offered twice by one run is an error even where an earlier run offered it."""
        again = self.begin_again(store, ["a", "b"])
        (once,), (twice,) = pieces_of(again, ["a"]), pieces_of(again, ["a"])
        with pytest.raises(SplitChanged):
            offer(store, again, [once, twice])
        offer(store, again, [once])
        with pytest.raises(SplitChanged):
            offer(store, again, [twice])

    def test_an_earlier_runs_seal_is_refused(self, store: Store) -> None:
        """Only the run that owns the job seals its batch."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1))
        store.reap("splitter.1")
        fetch_one(store, queue=SPLITS)
        assert settle(store, waiting(run, 1)) is Answer.STALE
        assert not batch(store, run.id).sealed


class FailureConformance(Conformance):
    """What becomes of a batch whose pieces do not all complete."""

    def test_finish_runs_the_others_to_their_end(self, store: Store) -> None:
        """`finish`: the others run to their end, then the batch fails."""
        id, _ = split(store, 3)
        first, second, third = leaves(store)
        store.settle([completed(first), failed(second)])
        assert (batch(store, id).state, state(store, id)) == (BatchState.OPEN, State.WAITING)
        settle(store, completed(third))
        assert (batch(store, id).state, state(store, id)) == (BatchState.FAILED, State.FAILED)
        assert tally(store, id) == (0, 2, 1, 0)
        assert fetch(store) == []

    def test_the_error_names_the_first_failed_piece(self, store: Store) -> None:
        """The continuation fails: its error names the failed piece of the lowest ordinal, and what it said."""
        id, _ = split(store, ["a", "b", "c"])
        first, second, third = leaves(store)
        store.settle([failed(third), completed(first), failed(second)])
        error = record(store, id).error
        assert error is not None
        assert error.type == "PieceFailed"
        assert "b" in error.message
        assert BAD_BODY.type in error.message
        assert BAD_BODY.message in error.message

    def test_the_error_names_a_piece_without_a_key_by_its_ordinal(self, store: Store) -> None:
        """A piece without a key is named by its ordinal, 0 included."""
        id, _ = split(store, 2)
        finish_with(store, failed, which=0, of=2)
        error = record(store, id).error
        assert error is not None
        assert "0" in error.message

    def test_a_cancelled_piece_fails_the_batch_at_its_end(self, store: Store) -> None:
        """It fails, where a piece was cancelled and the batch does not compose with failures."""
        id, pieces = split(store, ["a", "b"])
        store.cancel(Filter(ids=(pieces[1],)), reason="not this one")
        assert state(store, id) is State.WAITING
        complete_leaves(store)
        assert (batch(store, id).state, state(store, id)) == (BatchState.FAILED, State.FAILED)
        assert tally(store, id) == (0, 1, 0, 1)
        error = record(store, id).error
        assert error is not None
        assert error.type == "PieceFailed"
        assert "b" in error.message

    def test_compose_releases_with_failures(self, store: Store) -> None:
        """`compose`: the others run to their end, then the compose runs and sees the failures."""
        id, _ = split(store, 3, OnFailure.COMPOSE)
        finish_with(store, failed, which=1)
        assert batch(store, id).state is BatchState.DONE
        assert [piece.state for piece in store.pieces(id)] == [State.COMPLETED, State.FAILED, State.COMPLETED]
        assert [piece.error for piece in store.pieces(id)] == [None, BAD_BODY, None]
        compose(store, id)

    def test_compose_releases_with_cancelled_pieces(self, store: Store) -> None:
        """`compose` composes with cancelled pieces, too."""
        id, pieces = split(store, 2, OnFailure.COMPOSE)
        store.cancel(Filter(ids=(pieces[0],)), reason="no")
        complete_leaves(store)
        assert batch(store, id).state is BatchState.DONE
        compose(store, id)

    def test_fail_fast_fails_at_once(self, store: Store) -> None:
        """A piece that fails for good in a `fail_fast` batch fails the batch at once."""
        id, _ = split(store, ["a", "b", "c"], OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        assert_named_as_failed(store, id, "a")

    def test_fail_fast_starts_no_further_piece(self, store: Store) -> None:
        """A piece whose batch failed is cancelled instead of being fetched."""
        id, pieces = split(store, 3, OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        assert leaves(store) == []
        assert states(store, pieces) == [State.FAILED, State.CANCELLED, State.CANCELLED]
        assert tally(store, id) == (0, 0, 1, 2)
        assert (state(store, id), batch(store, id).state) == (State.FAILED, BatchState.FAILED)

    def test_fail_fast_waits_for_no_retry(self, store: Store) -> None:
        """A piece that will be tried again has not failed for good."""
        id, _ = split(store, 2, OnFailure.FAIL_FAST)
        settle(store, retried(leaves(store, 1)[0]))
        assert batch(store, id).state is BatchState.OPEN

    def test_fail_fast_is_no_matter_of_cancelled_pieces(self, store: Store) -> None:
        """A cancelled piece fails its batch when the others have ended, in a `fail_fast` batch, too."""
        id, pieces = split(store, 2, OnFailure.FAIL_FAST)
        store.cancel(Filter(ids=(pieces[0],)), reason="no")
        assert batch(store, id).state is BatchState.OPEN
        complete_leaves(store)
        assert batch(store, id).state is BatchState.FAILED

    def test_fail_fast_asks_running_pieces_to_stop(self, store: Store) -> None:
        """Pieces of a failed batch that run are asked to stop, and may still settle."""
        id, _ = split(store, 3, OnFailure.FAIL_FAST)
        first, second, third = leaves(store, worker="w.1")
        settle(store, failed(first))
        assert sorted(store.report("w.1", {})) == sorted([second.id, third.id])
        assert store.settle([completed(second), cancelled(third)]) == [Answer.OK, Answer.OK]
        assert tally(store, id) == (0, 1, 1, 1)
        assert (state(store, id), batch(store, id).state) == (State.FAILED, BatchState.FAILED)
        assert fetch(store) == []

    def test_fail_fast_before_the_seal(self, store: Store) -> None:
        """A batch may fail while its splitter still splits: the splitter is asked to stop, and fails with its batch."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        assert batch(store, run.id).state is BatchState.FAILED
        assert store.report("splitter.1", {}) == [run.id]
        assert settle(store, waiting(run, 2)) is Answer.OK
        found = record(store, run.id)
        assert found.state is State.FAILED
        assert found.error is not None
        assert found.error.type == "PieceFailed"

    @pytest.mark.parametrize("answer", [cancelled, retried, failed])
    def test_fail_fast_before_the_seal_whatever_the_splitter_says(self, store: Store, answer: End) -> None:
        """A splitter whose batch failed has failed."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        assert settle(store, answer(run)) is Answer.OK
        assert state(store, run.id) is State.FAILED
        assert leaves(store) == []

    def test_fail_fast_before_the_seal_when_the_splitter_dies(self, store: Store) -> None:
        """A splitter that dies after its batch failed has failed, too."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        store.reap("splitter.1")
        assert state(store, run.id) is State.FAILED
        assert fetch(store) == []

    def test_fail_fast_while_the_splitter_is_between_two_runs(self, store: Store) -> None:
        """A splitter that was to be tried again fails with its batch, at once."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.FAIL_FAST)
        settle(store, retried(run))
        settle(store, failed(leaves(store, 1)[0]))
        assert state(store, run.id) is State.FAILED
        assert fetch(store) == []

    def test_a_splitter_that_fails_takes_its_pieces_along(self, store: Store) -> None:
        """The pieces of a splitter that failed for good before it came to its end do not start any more."""
        run = splitting(store)
        pieces = offer(store, run, pieces_of(run, 2))
        settle(store, failed(run))
        assert leaves(store) == []
        assert states(store, pieces) == [State.CANCELLED] * 2
        assert state(store, run.id) is State.FAILED

    def test_a_step_that_fails_takes_its_pieces_along(self, store: Store) -> None:
        """The same for a splitter that is a later step of its job, and has a cursor."""
        add(store, queue=SPLITS)
        settle(store, ended(fetch_one(store), State.AVAILABLE, cursor="step:1"))
        run = fetch_one(store, worker="splitter.1")
        pieces = offer(store, run, pieces_of(run, 2))
        settle(store, failed(run))
        assert leaves(store) == []
        assert states(store, pieces) == [State.CANCELLED] * 2

    def test_failures_compose_to_the_last(self, store: Store) -> None:
        """`compose` composes even where nothing completed."""
        id, _ = split(store, 2, OnFailure.COMPOSE)
        store.settle([failed(run) for run in leaves(store)])
        assert tally(store, id) == (0, 0, 2, 0)
        compose(store, id)


class NestingConformance(Conformance):
    """A piece that is a split itself."""

    def forum(
        self, store: Store, topics: int = 2, posts: int = 3, on_failure: OnFailure = OnFailure.FINISH
    ) -> tuple[str, list[str]]:
        """A root that waits for splits that wait for leaves: its id and the splits'."""
        run = splitting(store, args='["forum"]')
        inner = offer(store, run, pieces_of(run, topics, queue=SPLITS, task="split"), on_failure)
        settle(store, waiting(run, topics))
        for topic in inner:
            inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
            assert (inner_run.id, inner_run.batch, inner_run.root) == (topic, run.id, run.id)
            offer(store, inner_run, pieces_of(inner_run, posts))
            settle(store, waiting(inner_run, posts))
        return run.id, inner

    def test_each_level_composes_once(self, store: Store) -> None:
        """A forum of 2 topics with 3 posts each: 6 leaves, 2 composes, then the root's, each once."""
        root, inner = self.forum(store)
        assert len(everything(store)) == 9
        complete_leaves(store)
        assert state(store, root) is State.WAITING
        assert {compose(store, topic).id for topic in inner} == set(inner)
        compose(store, root, '"forum"')
        assert fetch(store) == []
        assert {job.state for job in everything(store)} == {State.COMPLETED}
        assert record(store, root).result == '"forum"'

    def test_the_leaves_know_their_root(self, store: Store) -> None:
        """`root` is the job at the top, at every level."""
        root, _ = self.forum(store)
        assert store.count(Filter(root=root)) == 8

    def test_an_inner_split_is_an_open_piece_until_it_composed(self, store: Store) -> None:
        """A piece that is a split ends when its compose does."""
        root, inner = self.forum(store)
        complete_leaves(store)
        assert tally(store, root) == (2, 0, 0, 0)
        compose(store, inner[0])
        assert tally(store, root) == (1, 1, 0, 0)

    def test_a_failure_goes_up_to_the_root(self, store: Store) -> None:
        """A continuation that fails and is itself a piece settles in its own batch, in the same transaction."""
        root, inner = self.forum(store, topics=1)
        finish_with(store, failed)
        assert (state(store, inner[0]), batch(store, inner[0]).state) == (State.FAILED, BatchState.FAILED)
        assert (state(store, root), batch(store, root).state) == (State.FAILED, BatchState.FAILED)
        assert tally(store, root) == (0, 0, 1, 0)
        error = record(store, root).error
        assert error is not None
        assert BAD_BODY.message in error.message

    def test_a_failure_below_waits_for_the_others(self, store: Store) -> None:
        """A failed inner split fails its batch when the other pieces have ended."""
        root, inner = self.forum(store)
        runs = leaves(store)
        store.settle([failed(runs[0]), *[completed(run) for run in runs[1:]]])
        assert (state(store, inner[0]), state(store, root)) == (State.FAILED, State.WAITING)
        compose(store, inner[1])
        assert state(store, root) is State.FAILED

    def test_a_failure_below_fails_a_fail_fast_root_at_once(self, store: Store) -> None:
        """A continuation that fails for good fails the `fail_fast` batch it is a piece of, and all below it."""
        root, inner = self.forum(store, on_failure=OnFailure.FAIL_FAST)
        runs = leaves(store, 3)
        store.settle([completed(runs[0]), completed(runs[1]), failed(runs[2])])
        assert (state(store, inner[0]), state(store, root)) == (State.FAILED, State.FAILED)
        assert fetch(store, 10) == []
        assert state(store, inner[1]) is State.CANCELLED
        assert batch(store, inner[1]).state is BatchState.STOPPED
        assert tally(store, root) == (0, 0, 1, 1)

    def test_a_root_may_compose_with_a_failure_below(self, store: Store) -> None:
        """Each batch has its own policy."""
        root, inner = self.forum(store, on_failure=OnFailure.COMPOSE)
        runs = leaves(store)
        store.settle([failed(runs[0]), *[completed(run) for run in runs[1:]]])
        compose(store, inner[1])
        assert (state(store, inner[0]), batch(store, root).state) == (State.FAILED, BatchState.DONE)
        compose(store, root)

    def test_a_failed_compose_is_a_failed_piece(self, store: Store) -> None:
        """An inner split whose compose fails has failed as a piece."""
        root, inner = self.forum(store, topics=1)
        complete_leaves(store)
        settle(store, failed(fetch_one(store, queue=SPLITS)))
        assert batch(store, inner[0]).state is BatchState.DONE
        assert state(store, inner[0]) is State.FAILED
        assert (state(store, root), tally(store, root)) == (State.FAILED, (0, 0, 1, 0))

    def test_five_levels(self, store: Store) -> None:
        """However deep: what the last leaf comes to goes up as far as it has to."""
        runs = [splitting(store)]
        for _ in range(4):
            offer(store, runs[-1], pieces_of(runs[-1], 1, queue=SPLITS))
            settle(store, waiting(runs[-1], 1))
            runs.append(fetch_one(store, worker="splitter.1", queue=SPLITS))
        offer(store, runs[-1], pieces_of(runs[-1], 2))
        settle(store, waiting(runs[-1], 2))
        finish_with(store, failed, of=2)
        assert states(store, [run.id for run in runs]) == [State.FAILED] * 5
        assert {run.root or run.id for run in runs} == {runs[0].id}

    def test_a_step_of_an_operation_may_be_a_split(self, store: Store) -> None:
        """A job that has moved on may split, wait, and go on from its cursor."""
        id = add(store, queue=SPLITS)
        settle(store, ended(fetch_one(store), State.AVAILABLE, cursor="step:1"))
        run = fetch_one(store, worker="splitter.1")
        assert run.cursor == "step:1"
        offer(store, run, pieces_of(run, 1))
        settle(store, ended(run, State.WAITING, cursor="step:1:compose", seal=1))
        complete_leaves(store)
        again = fetch_one(store)
        assert (again.id, again.cursor) == (id, "step:1:compose")

    def test_a_job_may_split_more_than_once(self, store: Store) -> None:
        """A later step of the same job may split again, into a batch of its own."""
        add(store, queue=SPLITS)
        for step in range(3):
            run = fetch_one(store, worker="splitter.1", queue=SPLITS)
            id = run.id if step == 0 else new_id()
            pieces = [a_job(queue=LEAVES, batch=id, root=run.id, ordinal=n, args=f"[{step}]") for n in range(2)]
            store.add(pieces, batch=NewBatch(id=id, then=run.id), fence=run.fence)
            assert record(store, run.id).below == id
            assert settle(store, ended(run, State.WAITING, cursor=f"step:{step}:compose", seal=2)) is Answer.OK
            complete_leaves(store)
            again = fetch_one(store, queue=SPLITS)
            assert (again.id, again.cursor) == (run.id, f"step:{step}:compose")
            assert [piece.id for piece in store.pieces(id)] == [piece.id for piece in pieces]
            settle(store, ended(again, State.AVAILABLE, cursor=f"step:{step + 1}"))
        assert fetch_one(store, queue=SPLITS).cursor == "step:3"

    def test_a_later_split_that_fails(self, store: Store) -> None:
        """What becomes of a job's later batch is not decided by an earlier one."""
        add(store, queue=SPLITS)
        for step in range(2):
            run = fetch_one(store, worker="splitter.1", queue=SPLITS)
            id = new_id()
            pieces = [a_job(queue=LEAVES, batch=id, root=run.id, ordinal=n) for n in range(2)]
            store.add(pieces, batch=NewBatch(id=id, then=run.id), fence=run.fence)
            settle(store, ended(run, State.WAITING, cursor=f"step:{step}:compose", seal=2))
            if step == 0:
                complete_leaves(store)
                settle(store, ended(fetch_one(store, queue=SPLITS), State.AVAILABLE, cursor="step:1"))
        finish_with(store, failed, of=2)
        assert (state(store, run.id), batch(store, id).state) == (State.FAILED, BatchState.FAILED)
        assert store.retry(Filter(ids=(run.id,))) == 1
        assert (state(store, run.id), batch(store, id).state) == (State.WAITING, BatchState.OPEN)
        complete_leaves(store)
        assert fetch_one(store, queue=SPLITS).cursor == "step:1:compose"

    def test_a_released_split_and_its_sibling_are_fetched_together(self, store: Store) -> None:
        """Composes are jobs like others: one claim may take several."""
        _, inner = self.forum(store)
        complete_leaves(store)
        assert [run.id for run in store.fetch(a_claim(limit=10))] == inner

    def test_a_loose_batch_of_splits(self, store: Store) -> None:
        """A batch without a splitter may hold splits."""
        id = add_continuation(store)
        (piece,) = store.add([a_job(task="split", queue=SPLITS, batch=id, root=id, ordinal=0)])
        store.seal(id)
        run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        offer(store, run, pieces_of(run, 2))
        settle(store, waiting(run, 2))
        complete_leaves(store)
        assert state(store, id) is State.WAITING
        compose(store, piece)
        compose(store, id)
