"""What the reads promise."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from piecework.ids import new_id
from piecework.job import Answer, Filter, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    EVERYTHING,
    LEAVES,
    SPLITS,
    Conformance,
    a_job,
    a_worker,
    add,
    complete_leaves,
    completed,
    compose,
    everything,
    failed,
    fetch,
    fetch_one,
    leaves,
    offer,
    pieces_of,
    record,
    released,
    retried,
    running,
    settle,
    snapshot,
    snoozed,
    split,
    splitting,
    waiting,
)


class GetConformance(Conformance):
    """Jobs by their ids."""

    def test_get_answers_in_the_order_of_the_ids(self, store: Store) -> None:
        """The jobs with these ids, in this order."""
        first, second, third = store.add([a_job() for _ in range(3)])
        assert [job.id for job in store.get([third, first, second])] == [third, first, second]

    def test_get_leaves_out_what_is_not_stored(self, store: Store) -> None:
        """Ids that are not stored are left out."""
        id = add(store)
        assert [job.id for job in store.get([new_id(), id, "no such id"])] == [id]
        assert store.get([new_id()]) == []
        assert store.get([]) == []

    def test_get_shows_the_job_of_now(self, store: Store) -> None:
        """A read sees what was written before it."""
        run = running(store, worker="w.1")
        assert record(store, run.id).state is State.RUNNING
        settle(store, completed(run, '"done"'))
        assert record(store, run.id).result == '"done"'


class FindConformance(Conformance):
    """Jobs page by page."""

    def test_find_answers_in_the_order_of_arrival(self, store: Store, clock: FrozenClock) -> None:
        """A page of matching jobs in the order of their arrival."""
        ids = [add(store, id=new_id()[::-1], priority=n % 3, delay=float(n % 2)) for n in range(6)]
        clock.advance(5)
        fetch(store, 2)
        assert [job.id for job in store.find(EVERYTHING)] == ids

    def test_or_the_reverse(self, store: Store) -> None:
        """Or the reverse."""
        ids = store.add([a_job() for _ in range(4)])
        assert [job.id for job in store.find(EVERYTHING, newest=True)] == ids[::-1]
        assert [job.id for job in store.find(EVERYTHING, newest=True, limit=2)] == [ids[3], ids[2]]

    def test_beginning_behind_a_job(self, store: Store) -> None:
        """Beginning behind the job `after`, in either direction."""
        ids = store.add([a_job() for _ in range(5)])
        assert [job.id for job in store.find(EVERYTHING, after=ids[1])] == ids[2:]
        assert [job.id for job in store.find(EVERYTHING, after=ids[1], limit=1)] == [ids[2]]
        assert [job.id for job in store.find(EVERYTHING, after=ids[3], newest=True)] == [ids[2], ids[1], ids[0]]
        assert store.find(EVERYTHING, after=ids[4]) == []

    def test_behind_a_job_that_does_not_match(self, store: Store) -> None:
        """The job `after` need not match: it may have moved on since."""
        ids = [add(store, queue="a" if n % 2 else "b") for n in range(6)]
        assert [job.id for job in store.find(Filter(queue="a"), after=ids[2])] == [ids[3], ids[5]]

    def test_pages_meet(self, store: Store) -> None:
        """Page by page, each job is seen once."""
        ids = store.add([a_job(queue="a" if n % 3 else "b") for n in range(50)])
        for newest in (False, True):
            seen: list[str] = []
            while page := store.find(Filter(queue="a"), after=seen[-1] if seen else None, limit=7, newest=newest):
                seen += [job.id for job in page]
            assert sorted(seen) == sorted(id for n, id in enumerate(ids) if n % 3)

    @pytest.mark.parametrize("name", ["queue", "task", "state", "batch", "root", "key", "worker", "ids"])
    def test_find_by_each_field(self, store: Store, name: str) -> None:
        """A job matches when the field that is set matches."""
        self.populate(store)
        jobs = everything(store)
        values = {getattr(job, "id" if name == "ids" else name) for job in jobs} - {None}
        assert values
        for value in values:
            wanted = [job.id for job in jobs if getattr(job, "id" if name == "ids" else name) == value]
            which = replace(EVERYTHING, **{name: (value,) if name == "ids" else value})
            found = [job.id for job in store.find(which)]
            if name == "worker":  # a job that does not run any more may have forgotten who ran it
                wanted = [job.id for job in jobs if job.worker == value and job.state is State.RUNNING]
                found = [job.id for job in store.find(which) if job.state is State.RUNNING]
            assert found == wanted
            assert store.count(which) == len(store.find(which))

    def test_every_field_that_is_set_must_match(self, store: Store) -> None:
        """Every field that is set must match."""
        self.populate(store)
        jobs = everything(store)
        for queue in {job.queue for job in jobs}:
            for state in State:
                wanted = [job.id for job in jobs if job.queue == queue and job.state is state]
                which = Filter(queue=queue, state=state)
                assert [job.id for job in store.find(which)] == wanted
                assert store.count(which) == len(wanted)
        some = tuple(job.id for job in jobs[::2])
        wanted = [job.id for job in jobs[::2] if job.task == "leaf"]
        assert [job.id for job in store.find(Filter(ids=some, task="leaf"))] == wanted

    def test_no_ids_match_nothing(self, store: Store) -> None:
        """An empty set of ids is not no set of ids."""
        add(store)
        assert store.find(Filter(ids=())) == []
        assert store.count(Filter(ids=())) == 0
        assert store.cancel(Filter(ids=()), reason="no") == 0

    def test_names_are_compared_as_they_are(self, store: Store) -> None:
        """Names are text: no letter means another."""
        names = ["a", "A", "%", "_", "a'b", "a\\b", "ä", ""]
        for name in names:
            add(store, queue=name, task=name)
        for name in names:
            assert [job.queue for job in store.find(Filter(queue=name))] == [name]
            assert store.count(Filter(task=name)) == 1
            assert store.count(Filter(queue=name)) == 1

    def populate(self, store: Store) -> None:
        split(store, ["a", "b"])
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        store.add([a_job(key="k"), a_job(key="l", queue="q"), a_job(task="t", delay=60)])
        first, second, _ = fetch(store, 3, worker="w.2")
        store.settle([completed(first), failed(second)])


class CountConformance(Conformance):
    """Counting."""

    def test_count_says_how_many_match(self, store: Store) -> None:
        """How many jobs match."""
        store.add([a_job(queue="a", task="t"), a_job(queue="a"), a_job(queue="b")])
        assert store.count(EVERYTHING) == 3
        assert store.count(Filter(queue="a")) == 2
        assert store.count(Filter(queue="a", task="t")) == 1
        assert store.count(Filter(queue="nowhere")) == 0
        assert store.count(Filter(state=State.AVAILABLE)) == 3

    def test_counts_by_queue_and_state(self, store: Store) -> None:
        """How many jobs are in each (queue, state)."""
        store.add([a_job(queue="a"), a_job(queue="a"), a_job(queue="b", delay=60)])
        settle(store, completed(fetch_one(store)))
        fetch_one(store)
        counts = {place: n for place, n in store.counts().items() if n}
        assert counts == {("a", "completed"): 1, ("a", "running"): 1, ("b", "available"): 1}

    def test_a_job_that_is_not_due_is_available(self, store: Store, clock: FrozenClock) -> None:
        """There is no state for being scheduled: such a job is available and not due."""
        add(store, delay=60)
        assert store.count(Filter(state=State.AVAILABLE)) == 1
        clock.advance(61)
        assert store.count(Filter(state=State.AVAILABLE)) == 1

    def test_an_empty_store_counts_nothing(self, store: Store) -> None:
        """Nothing is nothing."""
        assert [n for n in store.counts().values() if n] == []
        assert store.count(EVERYTHING) == 0


class BatchReadConformance(Conformance):
    """Batches and their pieces."""

    def test_an_unknown_batch_is_none(self, store: Store) -> None:
        """A batch that does not exist is not an empty one."""
        assert store.batch(new_id()) is None
        assert store.pieces(new_id()) == []

    def test_pieces_tell_place_key_and_end(self, store: Store) -> None:
        """One piece as the compose reads it: its place, its key, and either a result or an error."""
        run = splitting(store)
        ids = offer(store, run, [*pieces_of(run, ["a", "b"]), *pieces_of(run, 1, first=2)])
        first, second, _ = leaves(store)
        store.settle([completed(first, '"A"'), failed(second)])
        found = store.pieces(run.id)
        assert [piece.id for piece in found] == ids
        assert [piece.ordinal for piece in found] == [0, 1, 2]
        assert [piece.key for piece in found][:2] == ["a", "b"]
        assert [piece.task for piece in found] == ["leaf"] * 3
        assert [piece.state for piece in found] == [State.COMPLETED, State.FAILED, State.RUNNING]
        assert [piece.result for piece in found] == ['"A"', None, None]
        assert [piece.error for piece in found] == [None, BAD_BODY, None]

    def test_pieces_come_in_pages(self, store: Store) -> None:
        """A page of a batch's pieces in their order, beginning behind the ordinal `after`."""
        id, ids = split(store, 25)
        seen: list[str] = []
        after = -1
        while page := store.pieces(id, after=after, limit=10):
            assert len(page) <= 10
            seen += [piece.id for piece in page]
            after = page[-1].ordinal
        assert seen == ids
        assert [piece.id for piece in store.pieces(id, after=0, limit=1)] == [ids[1]]

    def test_pieces_are_ordered_by_number(self, store: Store) -> None:
        """Ordinals are numbers, not text; the order of arrival is no matter."""
        run = splitting(store)
        for first in (20, 3, 0, 100):
            offer(store, run, pieces_of(run, 1, first=first))
        assert [piece.ordinal for piece in store.pieces(run.id)] == [0, 3, 20, 100]

    def test_pieces_of_one_batch_only(self, store: Store) -> None:
        """A batch's own pieces, not those of its pieces."""
        run = splitting(store)
        inner = offer(store, run, pieces_of(run, 1, queue=SPLITS))
        inner_run = fetch_one(store, queue=SPLITS)
        offer(store, inner_run, pieces_of(inner_run, 3))
        assert [piece.id for piece in store.pieces(run.id)] == inner

    def test_the_failed_pieces_only(self, store: Store) -> None:
        """Or of the failed ones only."""
        id, ids = split(store, 30)
        runs = leaves(store)
        store.settle([failed(run) if n % 3 == 0 else completed(run) for n, run in enumerate(runs[:20])])
        wanted = [ids[n] for n in range(0, 20, 3)]
        assert [piece.id for piece in store.pieces(id, failed=True)] == wanted
        assert [piece.id for piece in store.pieces(id, failed=True, after=3, limit=2)] == wanted[2:4]
        assert {piece.state for piece in store.pieces(id, failed=True)} == {State.FAILED}


class AttemptsConformance(Conformance):
    """The history of a job."""

    def test_attempts_tells_the_runs_that_did_not_complete(self, store: Store, clock: FrozenClock) -> None:
        """The runs of a job that did not complete, oldest first."""
        id = add(store)
        for end in (retried, released, retried):
            clock.advance(1)
            settle(store, end(fetch_one(store)))
        settle(store, completed(fetch_one(store)))
        lines = store.attempts(id)
        assert [(line.run, line.outcome) for line in lines] == [(1, "retry"), (2, "released"), (3, "retry")]
        assert [line.error for line in lines] == [BAD_BODY, None, BAD_BODY]
        assert [line.finished_at for line in lines] == sorted(line.finished_at for line in lines)
        assert {line.job for line in lines} == {id}

    def test_attempts_are_read_page_by_page(self, store: Store) -> None:
        """`after`, `before` and `limit` page through them by run, with `newest` from the newest to the oldest."""
        id = add(store)
        for _ in range(7):
            settle(store, retried(fetch_one(store)))

        def runs(**said: Any) -> list[int]:
            return [line.run for line in store.attempts(id, **said)]

        assert (runs(limit=3), runs(after=3, limit=3), runs(after=6, limit=3)) == ([1, 2, 3], [4, 5, 6], [7])
        assert (runs(newest=True), runs(newest=True, limit=2)) == ([7, 6, 5, 4, 3, 2, 1], [7, 6])
        assert (runs(newest=True, before=6, limit=2), runs(newest=True, before=1)) == ([5, 4], [])
        assert (runs(after=2, before=5), runs(after=2, before=6, limit=2, newest=True)) == ([3, 4], [5, 4])
        assert (runs(before=0), runs(after=7)) == ([], [])

    @pytest.mark.parametrize("newest", [False, True])
    def test_a_page_of_attempts_does_not_cut_a_run(self, store: Store, newest: bool) -> None:
        """A page has all lines of a run or none: where the last run has several, it has more than `limit`."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 1))
        settle(store, snoozed(run, 0.0))
        run = fetch_one(store, worker="splitter.1", queue=SPLITS)
        offer(store, run, pieces_of(run, 1))
        assert settle(store, replace(waiting(run, 1), history="sealed")) is Answer.OK
        settle(store, failed(fetch_one(store, queue=LEAVES)))
        told = [(line.run, line.outcome) for line in store.attempts(run.id, newest=newest)]
        assert sorted(told) == [(1, "snoozed"), (2, "failed"), (2, "sealed")]
        first = store.attempts(run.id, limit=1, newest=newest)
        bound = {"before": first[-1].run} if newest else {"after": first[-1].run}
        second = store.attempts(run.id, limit=1, newest=newest, **bound)
        assert [(line.run, line.outcome) for line in [*first, *second]] == told

    def test_attempts_of_nothing(self, store: Store) -> None:
        """A job that completed at once, or is not stored, has none."""
        id = add(store)
        assert store.attempts(id) == []
        settle(store, completed(fetch_one(store)))
        assert store.attempts(id) == []
        assert store.attempts(new_id()) == []

    def test_attempts_keeps_a_long_history(self, store: Store) -> None:
        """Every line, up to more than a hundred."""
        id = add(store)
        for _ in range(110):
            settle(store, retried(fetch_one(store)))
        assert [line.run for line in store.attempts(id)] == list(range(1, 111))

    def test_attempts_of_a_job_that_comes_back_for_ever(self, store: Store) -> None:
        """Of one that ran often, the first 10 and the last 100."""
        id, other = add(store), add(store)
        for _ in range(250):
            store.settle([retried(run) for run in fetch(store, 2)])
        wanted = [*range(1, 11), *range(151, 251)]
        assert [line.run for line in store.attempts(id)] == wanted
        assert [line.run for line in store.attempts(other)] == wanted

    def test_attempts_of_a_job_whose_workers_are_taken_away_for_ever(self, store: Store) -> None:
        """Runs that a reaped worker leaves behind count like others."""
        id = add(store)
        for _ in range(130):
            worker = a_worker()
            fetch_one(store, worker=worker)
            store.reap(worker)
        assert [line.run for line in store.attempts(id)] == [*range(1, 11), *range(31, 131)]


class OldestConformance(Conformance):
    """How long the oldest due job of each queue has been due."""

    def test_the_oldest_of_each_queue_is_told(self, store: Store, clock: FrozenClock) -> None:
        """For each queue with due jobs, the seconds since the one that has waited longest was due."""
        for seconds, queue, priority in ((0, "a", 5), (10, "a", 0), (10, "b", -1), (10, "b", 3)):
            clock.advance(seconds)
            add(store, queue=queue, priority=priority)
        clock.advance(4)
        assert store.oldest_due() == pytest.approx({"a": 34.0, "b": 14.0})

    def test_what_is_not_due_is_not_waited_for(self, store: Store, clock: FrozenClock) -> None:
        """A job counts from the moment at which it is due, whether a worker has looked since or not."""
        add(store, queue="a", delay=30)
        add(store, queue="b", delay=60)
        assert store.oldest_due() == {}
        clock.advance(42)
        assert store.oldest_due() == pytest.approx({"a": 12.0})

    def test_what_does_not_wait_in_line_is_not_waited_for(self, store: Store, clock: FrozenClock) -> None:
        """Only available jobs are due: not those that run, wait or have ended."""
        split(store, 1)
        fetch(store, 1)
        settle(store, failed(running(store)))
        clock.advance(10)
        assert store.oldest_due() == {}

    def test_a_paused_queue_waits_too(self, store: Store, clock: FrozenClock) -> None:
        """Due jobs of a paused queue are due."""
        add(store, queue="a")
        store.pause("a")
        clock.advance(3)
        assert store.oldest_due() == pytest.approx({"a": 3.0})


class PurityConformance(Conformance):
    """Observing is free of side effects."""

    def test_reading_changes_nothing(self, store: Store, clock: FrozenClock) -> None:
        """No read changes what a later one sees."""
        id, _ = split(store, 2)
        complete_leaves(store)
        compose(store, id)
        add(store, delay=5)
        clock.advance(10)
        before = snapshot(store, id)
        store.get([id])
        store.count(Filter(task="split"))
        store.pieces(id, failed=True)
        store.attempts(id)
        store.next_due()
        store.oldest_due()
        store.examine()
        assert snapshot(store, id) == before
