"""What `add` and `seal` promise."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError
from piecework.ids import new_id
from piecework.job import BatchState, Filter, NewBatch, OnFailure, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    LEAVES,
    SPLITS,
    Conformance,
    End,
    a_job,
    add,
    add_continuation,
    batch,
    cancelled,
    completed,
    everything,
    failed,
    fetch,
    fetch_one,
    leaves,
    loose_batch,
    offer,
    parked,
    pieces_of,
    record,
    retried,
    running,
    settle,
    snapshot,
    split,
    splitting,
    state,
    tally,
    together,
)


class AddConformance(Conformance):
    """Jobs that belong to no batch."""

    def test_add_stores_jobs_under_their_ids(self, store: Store) -> None:
        """Stores the jobs and returns for each the id under which it is stored."""
        jobs = [a_job(), a_job(), a_job()]
        assert store.add(jobs) == [job.id for job in jobs]
        assert [job.id for job in everything(store)] == [job.id for job in jobs]

    def test_add_of_nothing_stores_nothing(self, store: Store) -> None:
        """Stores the jobs: none of them, where there are none."""
        assert store.add([]) == []
        assert store.counts() == {}

    def test_add_keeps_every_field(self, store: Store, clock: FrozenClock) -> None:
        """What is stored is what was given."""
        job = a_job(
            task="t", args="[1]", queue="q", priority=-3, key="k", options='{"timeout":3}', run_at=clock.now() + 5
        )
        store.add([job])
        found = record(store, job.id)
        for name in ("id", "task", "args", "queue", "priority", "run_at", "key", "options"):
            assert getattr(found, name) == getattr(job, name)
        assert found.state is State.AVAILABLE
        assert (found.run, found.attempt, found.crashes) == (0, 0, 0)
        assert found.created_at == clock.now()
        assert (found.started_at, found.finished_at, found.result, found.error) == (None, None, None, None)
        assert not found.stopping

    def test_add_keeps_any_text(self, store: Store) -> None:
        """Names and payloads are text, whatever is in them."""
        queue, args = "a'b\"%_\\ ü 漢", '["\'; DROP TABLE jobs; --", "\\u0000", "😀"]'
        id = add(store, queue=queue, task="m:f.<locals>", args=args, options='{"x": null}')
        found = record(store, id)
        assert (found.queue, found.task, found.args) == (queue, "m:f.<locals>", args)
        assert fetch_one(store, queue=queue).args == args

    def test_add_is_all_or_none(self, store: Store) -> None:
        """Stores the jobs, all or none."""
        sealed = add_continuation(store)
        store.seal(sealed)
        good = a_job()
        with pytest.raises(UsageError):
            store.add([good, a_job(batch=sealed, ordinal=0)])
        assert store.get([good.id]) == []

    def test_add_leaves_a_stored_id_as_it_is(self, store: Store) -> None:
        """A job whose id is already stored is left as it is."""
        id = add(store, args="[1]")
        assert store.add([a_job(id, args="[2]", queue="elsewhere", priority=9)]) == [id]
        found = record(store, id)
        assert (found.args, found.queue, found.priority) == ("[1]", "default", 0)

    def test_add_leaves_a_finished_job_as_it_is(self, store: Store) -> None:
        """A job whose id is already stored is left as it is, whatever became of it."""
        run = running(store)
        settle(store, completed(run))
        assert store.add([a_job(run.id)]) == [run.id]
        assert state(store, run.id) is State.COMPLETED

    def test_add_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        jobs = [a_job(), a_job(key="k"), a_job(delay=5)]
        first = store.add(jobs)
        before = snapshot(store)
        assert store.add(jobs) == first
        assert snapshot(store) == before

    def test_add_answers_with_the_carrier_of_a_unique_key(self, store: Store) -> None:
        """A job whose unique key is carried by an unfinished job is not stored; the answer is that job's id."""
        first = add(store, key="k")
        second = a_job(key="k")
        assert store.add([second]) == [first]
        assert store.get([second.id]) == []

    def test_add_finds_a_unique_key_within_one_call(self, store: Store) -> None:
        """A unique key is unique among the jobs of one call, too."""
        jobs = [a_job(key="k"), a_job(), a_job(key="k")]
        assert store.add(jobs) == [jobs[0].id, jobs[1].id, jobs[0].id]
        assert store.count(Filter(key="k")) == 1

    def test_add_stores_the_others_of_a_call_with_a_taken_key(self, store: Store) -> None:
        """A job whose key is taken does not keep the others from being stored."""
        first = add(store, key="k")
        jobs = [a_job(key="j"), a_job(key="k"), a_job()]
        assert store.add(jobs) == [jobs[0].id, first, jobs[2].id]
        assert len(everything(store)) == 3

    def test_add_keeps_a_unique_key_while_the_job_runs_or_is_retried(self, store: Store) -> None:
        """A running job is unfinished, and so is one that will be tried again."""
        run = running(store, key="k")
        assert add(store, key="k") == run.id
        settle(store, retried(run, delay=60))
        assert add(store, key="k") == run.id

    def test_add_keeps_a_unique_key_while_the_job_is_parked(self, store: Store) -> None:
        """A parked job is unfinished."""
        run = running(store, key="k")
        settle(store, parked(run))
        assert add(store, key="k") == run.id

    @pytest.mark.parametrize("end", [completed, failed, cancelled])
    def test_add_frees_a_unique_key_when_its_job_ends(self, store: Store, end: End) -> None:
        """A finished job carries its key no longer."""
        run = running(store, key="k")
        settle(store, end(run))
        second = add(store, key="k")
        assert second != run.id
        assert state(store, second) is State.AVAILABLE

    def test_add_frees_a_unique_key_when_its_job_is_cancelled(self, store: Store) -> None:
        """A cancelled job carries its key no longer."""
        first = add(store, key="k")
        store.cancel(Filter(ids=(first,)), reason="no")
        assert add(store, key="k") != first

    def test_fifty_threads_adding_one_key_store_one_job(self, store: Store) -> None:
        """At most one unfinished job carries a unique key, however many add it at once."""
        answers = together(*[lambda: add(store, key="only") for _ in range(50)])
        (job,) = everything(store)
        assert set(answers) == {job.id}

    def test_add_with_a_delay_counts_from_the_stores_now(self, store: Store, clock: FrozenClock) -> None:
        """Delays count from the store's now."""
        id = add(store, delay=10.5)
        assert record(store, id).run_at == clock.now() + 10.5

    @pytest.mark.parametrize("how", ["delay", "run_at"])
    def test_a_job_is_not_fetched_before_its_time(self, store: Store, clock: FrozenClock, how: str) -> None:
        """A job that is not due is not fetched before its time."""
        id = add(store, **({"delay": 10.0} if how == "delay" else {"run_at": clock.now() + 10}))
        assert fetch(store) == []
        clock.advance(9.5)
        assert fetch(store) == []
        clock.advance(0.5)
        assert fetch_one(store).id == id

    def test_a_job_whose_time_has_passed_is_due(self, store: Store, clock: FrozenClock) -> None:
        """What is due is judged by the store's clock: a moment in the past is due."""
        id = add(store, run_at=clock.now() - 1000)
        assert fetch_one(store).id == id

    def test_a_waiting_job_is_not_fetched(self, store: Store) -> None:
        """A job that waits is not available."""
        add(store, state=State.WAITING)
        assert fetch(store) == []

    def test_add_takes_many_jobs_at_once(self, store: Store) -> None:
        """All of them, in their order, however many."""
        jobs = [a_job(args=f"[{n}]") for n in range(5000)]
        assert store.add(jobs) == [job.id for job in jobs]
        assert [job.id for job in everything(store)] == [job.id for job in jobs]

    def test_add_keeps_the_order_of_jobs_that_differ(self, store: Store) -> None:
        """The order of a call is the order of arrival, whatever the jobs are."""
        jobs = [a_job(task=f"t{n % 3}", queue=f"q{n % 2}", key=f"k{n}" if n % 4 == 0 else None) for n in range(24)]
        store.add(jobs)
        assert [job.id for job in everything(store)] == [job.id for job in jobs]
        assert [run.id for run in fetch(store, 24)] == [job.id for job in jobs]


class PiecesConformance(Conformance):
    """Jobs that are pieces of a batch."""

    def test_add_opens_the_batch_first(self, store: Store, clock: FrozenClock) -> None:
        """`batch` is opened first."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.COMPOSE)
        found = batch(store, run.id)
        assert (found.id, found.then, found.state, found.sealed) == (run.id, run.id, BatchState.OPEN, False)
        assert found.on_failure is OnFailure.COMPOSE
        assert (found.created_at, found.finished_at) == (clock.now(), None)

    def test_add_opens_a_batch_without_pieces(self, store: Store) -> None:
        """`batch` is opened, with or without pieces to go with it."""
        store.add([], batch=NewBatch(id="b"))
        assert (batch(store, "b").total, batch(store, "b").then) == (0, None)

    def test_add_leaves_an_open_batch_as_it_is(self, store: Store) -> None:
        """`batch` is opened, unless it exists."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1), OnFailure.FAIL_FAST)
        offer(store, run, pieces_of(run, 1, first=1), OnFailure.COMPOSE)
        assert batch(store, run.id).on_failure is OnFailure.FAIL_FAST
        assert batch(store, run.id).total == 2

    def test_pieces_raise_total_and_open(self, store: Store) -> None:
        """Pieces raise their batch's `total` and `open`."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        assert (batch(store, run.id).total, batch(store, run.id).open) == (2, 2)
        offer(store, run, pieces_of(run, 3, first=2))
        assert (batch(store, run.id).total, batch(store, run.id).open) == (5, 5)

    def test_a_piece_keeps_its_place(self, store: Store) -> None:
        """A piece carries its batch, its root, its ordinal and its key."""
        run = splitting(store)
        (first, second) = offer(store, run, [*pieces_of(run, 1), *pieces_of(run, ["b"], first=1)])
        found = record(store, first)
        assert (found.batch, found.root, found.ordinal, found.piece) == (run.id, run.id, 0, None)
        assert (record(store, second).ordinal, record(store, second).piece) == (1, "b")

    def test_pieces_may_run_before_the_batch_is_sealed(self, store: Store) -> None:
        """A piece is a job: it may be fetched as soon as it is stored."""
        run = splitting(store)
        ids = offer(store, run, pieces_of(run, 2))
        assert [piece.id for piece in leaves(store)] == ids

    @pytest.mark.parametrize("keys", [2, ["a", "b"]], ids=["by ordinal", "by key"])
    def test_a_stored_piece_key_is_not_stored_again(self, store: Store, keys: int | list[str]) -> None:
        """A piece whose key is already in its batch is not stored again; the answer is the stored piece's id."""
        run = splitting(store)
        ids = offer(store, run, pieces_of(run, keys))
        settle(store, retried(run))
        again = fetch_one(store, queue=SPLITS)
        assert offer(store, again, pieces_of(again, keys)) == ids
        assert batch(store, run.id).total == 2

    def test_a_settled_piece_is_not_stored_again(self, store: Store) -> None:
        """The stored piece is the answer even when it has run."""
        run = splitting(store)
        ids = offer(store, run, pieces_of(run, 2))
        settle(store, completed(leaves(store, 1)[0], '"kept"'))
        settle(store, retried(run))
        again = fetch_one(store, queue=SPLITS)
        assert offer(store, again, pieces_of(again, 2)) == ids
        assert record(store, ids[0]).result == '"kept"'
        assert tally(store, run.id) == (1, 1, 0, 0)

    def test_a_splitter_that_died_offers_the_rest(self, store: Store) -> None:
        """A splitter that dies after two of five pieces and runs again has five pieces, not seven."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        settle(store, retried(run))
        again = fetch_one(store, queue=SPLITS)
        ids = offer(store, again, pieces_of(again, 5))
        assert len(set(ids)) == 5
        assert batch(store, run.id).total == 5

    def test_the_same_offer_may_be_sent_twice(self, store: Store) -> None:
        """An offer that is repeated after a lost answer is no key offered twice."""
        run = splitting(store)
        pieces = pieces_of(run, ["a", "b"])
        first = offer(store, run, pieces)
        before = snapshot(store, run.id)
        assert offer(store, run, pieces) == first
        assert snapshot(store, run.id) == before

    def test_a_later_runs_offer_may_be_sent_twice(self, store: Store) -> None:
        """The same, where the pieces were stored by an earlier run."""
        run = splitting(store)
        ids = offer(store, run, pieces_of(run, ["a", "b"]))
        settle(store, retried(run))
        again = fetch_one(store, queue=SPLITS)
        pieces = pieces_of(again, ["a", "b", "c"])
        first = offer(store, again, pieces)
        assert first[:2] == ids
        assert offer(store, again, pieces) == first
        assert batch(store, run.id).total == 3

    def test_a_key_offered_twice_in_one_call_is_an_error(self, store: Store) -> None:
        """A key that is offered twice by one run raises `SplitChanged`; nothing of the call is stored."""
        run = splitting(store)
        with pytest.raises(SplitChanged):
            offer(store, run, pieces_of(run, ["a", "b", "a"]))
        assert store.batch(run.id) is None or batch(store, run.id).total == 0

    def test_a_key_offered_twice_by_one_run_is_an_error(self, store: Store) -> None:
        """A key that is offered twice by one run raises `SplitChanged`, across calls, too."""
        run = splitting(store)
        offer(store, run, pieces_of(run, ["a", "b"]))
        with pytest.raises(SplitChanged):
            offer(store, run, pieces_of(run, ["c", "a"], first=2))
        assert batch(store, run.id).total == 2

    def test_a_key_twice_in_a_call_without_a_run_is_one_piece(self, store: Store) -> None:
        """A piece whose key is already in its batch is not stored again, be it in it since this very call."""
        id = add_continuation(store)
        pieces = [a_job(queue=LEAVES, batch=id, ordinal=n, piece="a") for n in range(2)]
        first, second = store.add(pieces)
        assert first == second == pieces[0].id
        assert batch(store, id).total == 1
        with pytest.raises(SplitChanged):
            store.add([a_job(queue=LEAVES, batch=id, ordinal=n, piece="b", args=f"[{n}]") for n in range(2)])
        assert batch(store, id).total == 1

    @pytest.mark.parametrize("change", ["task", "args"])
    def test_a_key_offered_again_with_something_else_is_an_error(self, store: Store, change: str) -> None:
        """So does a key offered again with another task or other arguments."""
        run = splitting(store)
        offer(store, run, pieces_of(run, ["a"]))
        settle(store, retried(run))
        again = fetch_one(store, queue=SPLITS)
        with pytest.raises(SplitChanged):
            offer(store, again, [replace(pieces_of(again, ["a"])[0], **{change: "other"})])

    def test_a_piece_for_a_sealed_batch_is_refused(self, store: Store) -> None:
        """A piece added to a batch that is sealed raises `UsageError`."""
        id, _ = loose_batch(store)
        assert store.seal(id)
        with pytest.raises(UsageError):
            store.add([a_job(queue=LEAVES, batch=id, ordinal=2)])
        assert batch(store, id).total == 2

    def test_pieces_may_be_sent_again_after_the_seal(self, store: Store) -> None:
        """A resent call stores nothing, so a sealed batch does not refuse it."""
        id = add_continuation(store)
        pieces = [a_job(queue=LEAVES, batch=id, ordinal=n) for n in range(2)]
        ids = store.add(pieces)
        store.seal(id)
        assert store.add(pieces) == ids
        assert batch(store, id).total == 2

    def test_a_new_piece_beside_a_stored_one_is_refused_by_a_sealed_batch(self, store: Store) -> None:
        """A resent call that brings something new is refused, whole."""
        id = add_continuation(store)
        pieces = [a_job(queue=LEAVES, batch=id, ordinal=n) for n in range(3)]
        store.add(pieces[:2])
        store.seal(id)
        with pytest.raises(UsageError):
            store.add(pieces)
        assert batch(store, id).total == 2

    def test_a_piece_for_a_failed_batch_is_cancelled(self, store: Store) -> None:
        """A piece added to a batch that failed raises `JobCancelled`."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2), OnFailure.FAIL_FAST)
        settle(store, failed(leaves(store, 1)[0]))
        with pytest.raises(JobCancelled):
            offer(store, run, pieces_of(run, 1, first=2))
        assert batch(store, run.id).total == 2

    def test_a_piece_for_a_stopped_batch_is_cancelled(self, store: Store) -> None:
        """A piece added to a batch that was stopped raises `JobCancelled`."""
        id, _ = loose_batch(store)
        store.cancel(Filter(ids=(id,)), reason="no")
        with pytest.raises(JobCancelled):
            store.add([a_job(queue=LEAVES, batch=id, ordinal=2)])
        assert batch(store, id).total == 2

    def test_a_piece_of_no_batch_is_refused(self, store: Store) -> None:
        """A piece belongs to a batch that exists."""
        with pytest.raises(UsageError):
            store.add([a_job(batch=new_id(), ordinal=0)])
        assert everything(store) == []

    def test_nothing_is_stored_by_a_run_that_ended(self, store: Store) -> None:
        """With `fence`, nothing is stored unless that run still owns its job: `LeaseLost`."""
        run = splitting(store)
        settle(store, retried(run))
        with pytest.raises(LeaseLost):
            offer(store, run, pieces_of(run, 2))
        assert store.batch(run.id) is None
        assert len(everything(store)) == 1

    def test_nothing_is_stored_by_an_earlier_run(self, store: Store) -> None:
        """With `fence`, the run counts, not only the job."""
        run = splitting(store)
        settle(store, retried(run))
        fetch_one(store, queue=SPLITS)
        with pytest.raises(LeaseLost):
            offer(store, run, pieces_of(run, 2))

    def test_nothing_is_stored_by_a_run_that_was_reaped(self, store: Store) -> None:
        """With `fence`, a worker that was declared dead stores nothing any more."""
        run = splitting(store)
        store.reap("splitter.1")
        with pytest.raises(LeaseLost):
            store.add([a_job()], fence=run.fence)

    def test_a_run_may_add_plain_jobs_behind_its_fence(self, store: Store) -> None:
        """With `fence`, a run that owns its job stores what it adds."""
        run = running(store)
        job = a_job()
        assert store.add([job], fence=run.fence) == [job.id]

    def test_a_piece_whose_unique_key_is_taken_is_not_stored(self, store: Store) -> None:
        """A piece may carry a unique key, too; where it is taken, the batch does not grow."""
        other = add(store, key="k", args='["other"]')
        id = add_continuation(store)
        piece = a_job(queue=LEAVES, batch=id, ordinal=0, key="k")
        assert store.add([piece]) == [other]
        assert store.add([piece]) == [other]
        assert batch(store, id).total == 0

    def test_a_splitters_piece_whose_unique_key_is_taken_is_not_stored(self, store: Store) -> None:
        """The same behind a fence: another job's key is no key offered twice."""
        other = add(store, key="k", args='["other"]')
        run = splitting(store)
        pieces = [*pieces_of(run, 1), *pieces_of(run, 1, first=1, key="k")]
        assert offer(store, run, pieces)[1] == other
        assert batch(store, run.id).total == 1


class SealConformance(Conformance):
    """A batch without a splitter is sealed by hand."""

    def test_seal_says_that_this_call_did_it(self, store: Store) -> None:
        """Fixes the number of pieces of a batch, and says whether this call did it."""
        id, _ = loose_batch(store)
        assert store.seal(id) is True
        assert batch(store, id).sealed

    def test_seal_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """A sealed batch is left as it is."""
        id, _ = loose_batch(store)
        store.seal(id)
        before = snapshot(store, id)
        assert store.seal(id) is False
        assert snapshot(store, id) == before

    def test_sealing_an_empty_batch_finishes_it(self, store: Store) -> None:
        """A batch without an open piece is finished by being sealed."""
        id = add_continuation(store)
        assert store.seal(id)
        assert batch(store, id).state is BatchState.DONE
        assert state(store, id) is State.AVAILABLE

    def test_sealing_after_the_last_piece_finishes_it(self, store: Store) -> None:
        """A batch whose pieces have all settled is finished by being sealed, and not before."""
        id, _ = loose_batch(store)
        store.settle([completed(run) for run in leaves(store)])
        assert state(store, id) is State.WAITING
        assert batch(store, id).state is BatchState.OPEN
        assert store.seal(id)
        assert state(store, id) is State.AVAILABLE

    def test_sealing_after_a_failed_piece_fails_the_batch(self, store: Store) -> None:
        """A batch is finished by being sealed: badly, where a piece failed."""
        id, _ = loose_batch(store)
        first, second = leaves(store)
        store.settle([failed(first), completed(second)])
        store.seal(id)
        assert batch(store, id).state is BatchState.FAILED
        assert state(store, id) is State.FAILED
        error = record(store, id).error
        assert error is not None
        assert BAD_BODY.message in error.message

    def test_sealing_finishes_a_batch_with_nothing_after_it(self, store: Store) -> None:
        """A batch need not release anything."""
        store.add([], batch=NewBatch(id="b"))
        assert store.seal("b")
        assert batch(store, "b").state is BatchState.DONE
        assert everything(store) == []

    def test_sealing_a_finished_batch_changes_nothing(self, store: Store) -> None:
        """A sealed batch is left as it is: its continuation is not released again."""
        id = add_continuation(store)
        store.seal(id)
        settle(store, completed(fetch_one(store)))
        assert store.seal(id) is False
        assert state(store, id) is State.COMPLETED

    def test_a_batch_is_sealed_by_one_of_many(self, store: Store) -> None:
        """Exactly one of many calls seals the batch."""
        id, _ = loose_batch(store)
        assert sum(together(*[lambda: store.seal(id) for _ in range(8)])) == 1

    def test_a_split_is_sealed_by_its_settlement(self, store: Store) -> None:
        """A splitter's last settlement fixes the number of its pieces."""
        id, _ = split(store, 2)
        assert batch(store, id).sealed
        assert store.seal(id) is False
