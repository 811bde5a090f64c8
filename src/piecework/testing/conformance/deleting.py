"""What deleting promises: what ended goes with all below it, and nothing that somebody may still need goes at all."""

from __future__ import annotations

import pytest

from piecework.ids import new_id
from piecework.job import Filter, NewBatch, OnFailure, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
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
    retried,
    running,
    settle,
    snapshot,
    split,
    splitting,
    states,
    tally,
    waiting,
)


def only(*ids: str) -> Filter:
    return Filter(ids=ids)


class DeleteConformance(Conformance):
    """Deleting what ended."""

    @pytest.mark.parametrize("end", [completed, failed, cancelled, parked])
    def test_what_ended_or_is_parked_is_deleted(self, store: Store, end: End) -> None:
        """Deletes jobs that ended or are parked, and returns how many."""
        run = running(store)
        settle(store, end(run))
        assert store.delete(EVERYTHING) == 1
        assert store.get([run.id]) == []
        assert not any(store.counts().values())

    def test_what_has_not_ended_is_kept(self, store: Store) -> None:
        """A job that waits, is available or runs is kept."""
        split(store, 2)
        add(store, delay=60)
        running(store, priority=-1)
        before = snapshot(store)
        assert store.delete(EVERYTHING) == 0
        assert snapshot(store) == before

    def test_delete_touches_what_matches(self, store: Store) -> None:
        """Only jobs that match go."""
        bad, good = add(store, task="bad"), add(store, task="good")
        store.settle([failed(run) for run in fetch(store, 2)])
        assert store.delete(Filter(state=State.FAILED, task="bad")) == 1
        assert [job.id for job in store.get([bad, good])] == [good]

    def test_delete_touches_up_to_its_limit(self, store: Store) -> None:
        """Up to `limit` matching jobs."""
        store.add([a_job() for _ in range(5)])
        store.settle([failed(run) for run in fetch(store, 5)])
        assert [store.delete(EVERYTHING, limit=2) for _ in range(4)] == [2, 2, 1, 0]

    def test_what_must_stay_does_not_count_against_the_limit(self, store: Store) -> None:
        """Jobs that have to stay hide none that may go, however many there are."""
        split(store, 5)
        store.settle([failed(run) for run in leaves(store, 4)])
        add(store, queue="last")
        last = fetch_one(store, queue="last")
        settle(store, failed(last))
        assert store.delete(Filter(state=State.FAILED), limit=1) == 1
        assert store.get([last.id]) == []

    def test_delete_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        run = running(store)
        add(store)
        settle(store, failed(run))
        store.delete(EVERYTHING)
        before = snapshot(store)
        assert store.delete(EVERYTHING) == 0
        assert snapshot(store) == before

    def test_the_history_goes_along(self, store: Store) -> None:
        """What is told of its runs goes with a job."""
        run = running(store)
        settle(store, retried(run))
        settle(store, failed(fetch_one(store)))
        assert len(store.attempts(run.id)) == 2
        store.delete(EVERYTHING)
        assert store.attempts(run.id) == []

    def test_a_key_of_a_parked_job_is_free_again(self, store: Store) -> None:
        """A parked job carries its unique key; deleted, it gives it back."""
        run = running(store, key="k")
        settle(store, parked(run))
        assert add(store, key="k") == run.id
        store.delete(only(run.id))
        assert add(store, key="k") != run.id

    def test_a_late_answer_changes_nothing(self, store: Store) -> None:
        """A settlement of a job that was deleted is stale."""
        run = running(store)
        settle(store, cancelled(run))
        store.delete(EVERYTHING)
        assert settle(store, completed(run)).value == "stale"
        assert everything(store) == []

    # ── trees ────────────────────────────────────────────────────────────────────────────────────

    def test_a_tree_goes_with_its_root(self, store: Store) -> None:
        """With all below it, whatever its pieces came to, and its batch."""
        id, pieces = split(store, 3)
        finish_with(store, failed)
        other = add(store)
        assert store.delete(only(id)) == 4
        assert [job.id for job in everything(store)] == [other]
        assert (store.batch(id), store.pieces(id), store.get(pieces)) == (None, [], [])

    def test_a_nested_tree_goes_whole(self, store: Store) -> None:
        """And so do the batches below."""
        run = splitting(store)
        (inner,) = offer(store, run, pieces_of(run, ["inner"], queue=SPLITS))
        settle(store, waiting(run, 1))
        inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        offer(store, inner_run, pieces_of(inner_run, 2))
        settle(store, waiting(inner_run, 2))
        finish_with(store, failed, of=2)
        assert store.delete(Filter(ids=(run.id,))) == 4
        assert everything(store) == []
        assert (store.batch(run.id), store.batch(inner)) == (None, None)

    def test_a_piece_goes_with_its_root_only(self, store: Store) -> None:
        """A piece is kept while the root of its tree could be run again: a retry would compose without it."""
        id, pieces = split(store, 3)
        finish_with(store, failed)
        before = snapshot(store, id)
        assert store.delete(only(*pieces)) == 0
        assert snapshot(store, id) == before
        assert store.retry(only(id)) == 1
        complete_leaves(store)
        compose(store, id)

    @pytest.mark.parametrize("end", [completed, failed, cancelled])
    def test_no_piece_of_an_open_batch_is_deleted(self, store: Store, end: End) -> None:
        """A piece is kept while its batch is open."""
        id, pieces = split(store, 3)
        settle(store, end(leaves(store, 1)[0]))
        assert store.delete(EVERYTHING) == 0
        assert len(store.get([id, *pieces])) == 4

    def test_a_parked_splitter_is_kept_while_its_batch_is_open(self, store: Store) -> None:
        """Whatever an open batch is below is kept: its pieces still run."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        settle(store, parked(run))
        complete_leaves(store)
        assert store.delete(EVERYTHING) == 0
        store.cancel(only(run.id), reason="no")
        assert store.delete(only(run.id)) == 3

    def test_a_root_is_kept_while_a_piece_runs(self, store: Store) -> None:
        """Whatever a running job is below is kept: a cancelled split goes once its last piece has stopped."""
        id, _ = split(store, 2)
        run = leaves(store, 1)[0]
        store.cancel(only(id), reason="no")
        assert store.delete(EVERYTHING) == 0
        settle(store, cancelled(run))
        assert store.delete(only(id)) == 3
        assert everything(store) == []

    def test_the_pieces_that_go_along_are_not_limited(self, store: Store) -> None:
        """All below it, however many."""
        id, _ = split(store, 2500)
        complete_leaves(store)
        compose(store, id)
        assert store.delete(only(id), limit=1) == 2501
        assert everything(store) == []

    def test_a_failed_piece_of_a_completed_tree_goes_by_itself(self, store: Store) -> None:
        """Once the root has completed, a piece goes by itself, and its batch counts one less."""
        id, pieces = split(store, 3, OnFailure.COMPOSE)
        finish_with(store, failed)
        compose(store, id)
        assert store.delete(Filter(state=State.FAILED)) == 1
        assert states(store, [id, *pieces]) == [State.COMPLETED] * 3
        assert (tally(store, id), batch(store, id).total) == ((0, 2, 0, 0), 2)

    def test_a_deleted_piece_takes_all_below_it_along(self, store: Store) -> None:
        """A split that is a piece goes with its own pieces."""
        run = splitting(store)
        (inner,) = offer(store, run, pieces_of(run, 1, queue=SPLITS), OnFailure.COMPOSE)
        settle(store, waiting(run, 1))
        inner_run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        offer(store, inner_run, pieces_of(inner_run, 2))
        settle(store, waiting(inner_run, 2))
        finish_with(store, failed, of=2)
        compose(store, run.id)
        assert store.delete(only(inner)) == 3
        assert [job.id for job in everything(store)] == [run.id]
        assert store.batch(inner) is None
        assert batch(store, run.id).total == 0

    def test_a_tree_that_was_put_together_by_hand_goes_with_its_continuation(self, store: Store) -> None:
        """Its continuation is its root."""
        id, _ = loose_batch(store, 2)
        store.seal(id)
        complete_leaves(store)
        compose(store, id)
        assert store.delete(only(id)) == 3
        assert (everything(store), store.batch(id)) == ([], None)

    def test_a_batch_without_a_continuation_goes_with_its_last_piece(self, store: Store, clock: FrozenClock) -> None:
        """Where there is no root, a piece goes by itself; what is left can still be retried."""
        id = new_id()
        pieces = store.add([a_job(queue=LEAVES, batch=id, root=id, ordinal=n) for n in range(3)], batch=NewBatch(id=id))
        store.seal(id)
        finish_with(store, failed)
        assert store.delete(only(pieces[1])) == 1
        assert tally(store, id) == (0, 1, 1, 0)
        assert store.retry(only(pieces[0])) == 1
        assert tally(store, id) == (1, 1, 0, 0)
        complete_leaves(store)
        assert store.delete(EVERYTHING) == 2
        assert store.batch(id) is None
