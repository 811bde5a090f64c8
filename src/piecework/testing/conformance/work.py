"""What `fetch`, `settle`, `exchange` and `report` promise about single jobs."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from piecework.ids import new_id
from piecework.job import Answer, ErrorInfo, Fetched, Filter, OnFailure, Progress, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    SPLITS,
    Conformance,
    End,
    a_claim,
    a_job,
    add,
    cancelled,
    completed,
    ended,
    failed,
    fetch,
    fetch_one,
    offer,
    parked,
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
    state,
    tally,
    together,
    waiting,
)


class FetchConformance(Conformance):
    """Who gets which job, and when."""

    def test_fetch_gives_everything_a_run_needs(self, store: Store, clock: FrozenClock) -> None:
        """Takes due jobs for a worker: what it was added with, and when it began."""
        job = a_job(task="t", args="[1]", queue="q", priority=4, options='{"timeout":3}')
        store.add([job])
        assert fetch(store) == [
            Fetched(
                id=job.id,
                run=1,
                task="t",
                queue="q",
                priority=4,
                attempt=0,
                crashes=0,
                batch=None,
                root=None,
                cursor=None,
                options='{"timeout":3}',
                started_at=clock.now(),
                args="[1]",
            )
        ]

    def test_fetched_jobs_run_now(self, store: Store, clock: FrozenClock) -> None:
        """They run now."""
        run = running(store, worker="w.7")
        found = record(store, run.id)
        assert (found.state, found.worker, found.started_at) == (State.RUNNING, "w.7", clock.now())

    def test_each_fetch_raises_the_run(self, store: Store) -> None:
        """Their `run` is one higher."""
        first = running(store)
        settle(store, retried(first))
        second = fetch_one(store)
        assert (first.run, second.run, record(store, first.id).run) == (1, 2, 2)

    def test_fetch_takes_up_to_its_limit(self, store: Store) -> None:
        """Takes up to `limit` due jobs."""
        ids = store.add([a_job() for _ in range(5)])
        assert [run.id for run in fetch(store, 3)] == ids[:3]
        assert [run.id for run in fetch(store, 3)] == ids[3:]
        assert fetch(store, 3) == []

    def test_fetch_of_fewer_than_none_takes_none(self, store: Store) -> None:
        """A worker that holds more than it has places for has no room, and says so by its arithmetic."""
        id = add(store)
        assert fetch(store, -3) == []
        assert state(store, id) is State.AVAILABLE

    def test_fetch_of_none_takes_none(self, store: Store) -> None:
        """Takes up to `limit` due jobs: a full worker takes none."""
        id = add(store)
        assert fetch(store, 0) == []
        assert state(store, id) is State.AVAILABLE

    def test_lower_priority_first(self, store: Store) -> None:
        """Lower priority first."""
        ids = {priority: add(store, priority=priority) for priority in (0, 5, -2, 1)}
        assert [run.id for run in fetch(store, 4)] == [ids[-2], ids[0], ids[1], ids[5]]

    def test_then_earlier_run_at(self, store: Store, clock: FrozenClock) -> None:
        """Then earlier `run_at`."""
        late, early, now = add(store, delay=2), add(store, delay=1), add(store)
        clock.advance(3)
        assert [run.id for run in fetch(store, 3)] == [now, early, late]

    def test_then_earlier_arrival(self, store: Store) -> None:
        """Then earlier arrival, whatever the ids."""
        ids = [add(store, id=new_id()[::-1]) for _ in range(10)]
        assert [run.id for run in fetch(store, 10)] == ids

    def test_the_order_holds_across_queues(self, store: Store) -> None:
        """The order is one, over all the queues that are asked for."""
        ids = [add(store, queue=f"q{n % 3}", priority=priority) for n, priority in enumerate([3, 1, 2, 1, 3, 2])]
        assert [run.id for run in fetch(store, 6)] == [ids[n] for n in (1, 3, 2, 5, 0, 4)]

    def test_a_future_job_of_better_priority_holds_up_nobody(self, store: Store) -> None:
        """A job that is not due does not stand in the line."""
        add(store, priority=-9, delay=60)
        id = add(store)
        assert fetch_one(store).id == id

    def test_no_job_is_given_to_two_workers(self, store: Store) -> None:
        """No job is given to two workers, however many ask at once."""
        ids = store.add([a_job() for _ in range(400)])

        def work(worker: str) -> list[str]:
            taken: list[str] = []
            while runs := fetch(store, 7, worker=worker):
                taken += [run.id for run in runs]
            return taken

        taken = together(*[lambda n=n: work(f"w.{n}") for n in range(8)])
        assert Counter(id for ids in taken for id in ids) == Counter(ids)

    def test_two_threads_fetching_one_job(self, store: Store) -> None:
        """No job is given to two workers: of two that ask for the last one, one gets it."""
        for _ in range(100):
            id = add(store)
            first, second = together(lambda: fetch(store, worker="w.1"), lambda: fetch(store, worker="w.2"))
            assert [run.id for run in first + second] == [id]

    def test_paused_queues_are_left_alone(self, store: Store) -> None:
        """Paused queues are left alone."""
        add(store, queue="a")
        other = add(store, queue="b")
        store.pause("a")
        assert [run.id for run in fetch(store, 10)] == [other]
        assert fetch(store, 10, queue="a") == []

    def test_queues_that_were_not_asked_for_are_left_alone(self, store: Store) -> None:
        """Queues that were not asked for are left alone."""
        ids = {queue: add(store, queue=queue) for queue in ("a", "b", "c")}
        assert [run.id for run in store.fetch(a_claim(limit=10, queues=("a", "c")))] == [ids["a"], ids["c"]]
        assert store.fetch(a_claim(limit=10, queues=("nowhere",))) == []
        assert state(store, ids["b"]) is State.AVAILABLE

    def test_a_claim_for_no_queue_takes_nothing(self, store: Store) -> None:
        """No queue at all is not every queue."""
        add(store)
        assert store.fetch(a_claim(limit=10, queues=())) == []

    def test_fetch_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """A claim that was answered before gets the same jobs again."""
        store.add([a_job() for _ in range(5)])
        claim = a_claim(limit=2)
        first = store.fetch(claim)
        before = snapshot(store)
        assert store.fetch(claim) == first
        assert snapshot(store) == before

    def test_a_repeated_claim_keeps_its_order(self, store: Store) -> None:
        """The same jobs again, best first as before, whatever queue each is from."""
        ids = {priority: add(store, priority=priority, queue=f"q{priority}") for priority in (3, 1, 5, 2, 0, 4)}
        claim = a_claim(limit=6)
        first = store.fetch(claim)
        assert [job.id for job in first] == [ids[priority] for priority in range(6)]
        assert store.fetch(claim) == first

    def test_a_repeated_claim_gets_only_what_still_runs(self, store: Store) -> None:
        """Those that still run."""
        store.add([a_job() for _ in range(5)])
        claim = a_claim(limit=2)
        first, second = store.fetch(claim)
        settle(store, completed(first))
        assert store.fetch(claim) == [second]

    def test_a_repeated_claim_does_not_get_the_next_run(self, store: Store) -> None:
        """A job that the claim got and that another worker holds since is not the claim's."""
        store.add([a_job(), a_job()])
        claim = a_claim("w.1", limit=2)
        first, second = store.fetch(claim)
        settle(store, retried(first))
        assert fetch_one(store, worker="w.2").id == first.id
        assert store.fetch(claim) == [second]

    def test_a_worker_holds_its_runs(self, store: Store) -> None:
        """The runs that are this worker's by the store's books, whichever claim they came by."""
        store.add([a_job() for _ in range(4)])
        first, second = fetch(store, 2, worker="w.1")
        third = fetch_one(store, worker="w.1")
        fetch_one(store, worker="w.11")
        settle(store, completed(second))
        assert set(store.holds("w.1")) == {first.fence, third.fence}
        settle(store, retried(first))
        assert store.holds("w.1") == [third.fence]
        assert fetch(store, 4, worker="w.1")[0].fence in store.holds("w.1")
        store.reap("w.1")
        assert store.holds("w.1") == store.holds("nobody.1") == []

    def test_a_claim_that_comes_late_is_held_though_nobody_heard_of_it(self, store: Store) -> None:
        """A request may arrive after its worker asked again and went on: what it takes is found by `holds`."""
        asked = a_claim("w.1")
        assert store.fetch(asked) == []
        assert store.fetch(a_claim("w.1")) == []
        add(store)
        (stray,) = store.fetch(asked)  # once more, and late
        assert store.holds("w.1") == [stray.fence]

    def test_a_new_claim_gets_new_jobs(self, store: Store) -> None:
        """Another number is another claim."""
        ids = store.add([a_job() for _ in range(2)])
        assert [fetch_one(store).id, fetch_one(store).id] == ids

    def test_two_workers_may_use_one_number(self, store: Store) -> None:
        """The number is the worker's own."""
        ids = store.add([a_job(), a_job()])
        claim = a_claim("w.1")
        assert [run.id for run in store.fetch(claim)] == [ids[0]]
        other = type(claim)("w.2", claim.number, claim.limit, claim.queues)
        assert [run.id for run in store.fetch(other)] == [ids[1]]


class ExpiryConformance(Conformance):
    """A time by which a job must have been begun."""

    def test_a_job_that_was_not_begun_in_time_is_cancelled_with_a_reason(
        self, store: Store, clock: FrozenClock
    ) -> None:
        id = add(store, expires=10)
        assert record(store, id).expires_at == clock.now() + 10
        clock.advance(10)
        assert fetch(store) == []
        over = record(store, id)
        assert over.state is State.CANCELLED
        assert over.reason
        assert over.finished_at == clock.now()

    def test_before_its_time_is_over_it_is_fetched(self, store: Store, clock: FrozenClock) -> None:
        id = add(store, expires=10)
        clock.advance(9)
        assert fetch_one(store).id == id

    def test_the_time_counts_from_when_it_is_due(self, store: Store, clock: FrozenClock) -> None:
        id = add(store, delay=100, expires=10)
        clock.advance(105)
        assert fetch_one(store).id == id

    def test_a_moment_is_kept_as_it_is(self, store: Store, clock: FrozenClock) -> None:
        at = clock.now() + 5
        id = add(store, delay=3, expires_at=at)
        assert record(store, id).expires_at == at

    def test_it_ends_also_where_nobody_asks_for_its_queue(self, store: Store, clock: FrozenClock) -> None:
        id = add(store, queue="forgotten", expires=1)
        store.pause("forgotten")
        clock.advance(2)
        assert fetch(store, queue="other") == []
        assert state(store, id) is State.CANCELLED

    def test_who_asks_for_no_job_changes_nothing(self, store: Store, clock: FrozenClock) -> None:
        """A claim of none only shows that its worker is known."""
        id = add(store, expires=1)
        clock.advance(2)
        assert store.fetch(a_claim(limit=0)) == []
        assert state(store, id) is State.AVAILABLE

    def test_a_future_job_may_expire_too(self, store: Store, clock: FrozenClock) -> None:
        id = add(store, delay=100, expires_at=clock.now() + 5)
        clock.advance(6)
        fetch(store)
        assert state(store, id) is State.CANCELLED

    @pytest.mark.parametrize("end", [lambda run: retried(run, 100.0), lambda run: snoozed(run, 100.0)])
    def test_what_has_been_begun_does_not_expire(self, store: Store, clock: FrozenClock, end: End) -> None:
        run = running(store, expires=10)
        settle(store, end(run))
        clock.advance(100)
        assert fetch_one(store).id == run.id

    def test_what_was_handed_back_may_expire(self, store: Store, clock: FrozenClock) -> None:
        run = running(store, expires=10)
        settle(store, released(run))
        clock.advance(10)
        assert fetch(store) == []
        assert state(store, run.id) is State.CANCELLED

    def test_a_running_job_does_not_expire(self, store: Store, clock: FrozenClock) -> None:
        run = running(store, expires=10)
        clock.advance(100)
        assert fetch(store) == []
        assert settle(store, completed(run)) is Answer.OK

    def test_a_piece_that_expires_is_counted(self, store: Store, clock: FrozenClock) -> None:
        run = splitting(store)
        offer(store, run, pieces_of(run, 1, expires=5), OnFailure.COMPOSE)
        settle(store, waiting(run, 1))
        clock.advance(5)
        fetch(store, queue="other")
        assert tally(store, run.id) == (0, 0, 0, 1)
        assert state(store, run.id) is State.AVAILABLE

    def test_many_expire_at_once(self, store: Store, clock: FrozenClock) -> None:
        store.add([a_job(expires=1) for _ in range(2500)])
        left = add(store)
        clock.advance(1)
        fetched = [fetch(store) for _ in range(4)]
        assert [run.id for runs in fetched for run in runs] == [left]
        assert store.counts()["default", "cancelled"] == 2500

    def test_a_worker_is_told_when_the_next_one_expires(self, store: Store) -> None:
        add(store, delay=100, expires_at=None)
        add(store, queue="forgotten", expires=5)
        assert store.next_due() == 5

    def test_one_that_was_retried_by_hand_does_not_expire_again(self, store: Store, clock: FrozenClock) -> None:
        id = add(store, expires=1)
        clock.advance(1)
        fetch(store)
        assert store.retry(Filter(ids=(id,))) == 1
        assert fetch_one(store).id == id


class SettleConformance(Conformance):
    """How a run ends."""

    def test_a_completed_run(self, store: Store, clock: FrozenClock) -> None:
        """Ends runs: a completed one keeps its result and leaves no line."""
        run = running(store)
        clock.advance(2)
        assert settle(store, completed(run, '{"n":1}')) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.result, found.finished_at) == (State.COMPLETED, '{"n":1}', clock.now())
        assert found.error is None
        assert store.attempts(run.id) == []

    def test_a_result_of_none(self, store: Store) -> None:
        """A completed run without a result has none."""
        run = running(store)
        settle(store, completed(run, None))
        assert (state(store, run.id), record(store, run.id).result) == (State.COMPLETED, None)

    def test_a_failed_run(self, store: Store, clock: FrozenClock) -> None:
        """Ends runs: a failed one keeps its error, and a line."""
        run = running(store, worker="w.3")
        clock.advance(2)
        error = ErrorInfo("ValueError", "bad body", "Traceback …")
        assert settle(store, failed(run, error)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.error, found.attempt) == (State.FAILED, error, 1)
        assert found.finished_at == clock.now()
        (line,) = store.attempts(run.id)
        assert (line.job, line.run, line.attempt, line.outcome) == (run.id, 1, 1, "failed")
        assert (line.error, line.worker) == (error, "w.3")
        assert (line.started_at, line.finished_at) == (clock.now() - 2, clock.now())

    def test_a_retried_run_is_due_at_once(self, store: Store, clock: FrozenClock) -> None:
        """Ends runs: one that is tried again without a delay is due at once."""
        run = running(store)
        clock.advance(2)
        settle(store, retried(run))
        found = record(store, run.id)
        assert (found.state, found.run_at, found.attempt) == (State.AVAILABLE, clock.now(), 1)
        again = fetch_one(store)
        assert (again.id, again.run, again.attempt) == (run.id, 2, 1)

    def test_a_delay_counts_from_the_stores_now(self, store: Store, clock: FrozenClock) -> None:
        """Delays count from the store's now."""
        run = running(store)
        clock.advance(2)
        settle(store, retried(run, delay=30))
        assert record(store, run.id).run_at == clock.now() + 30
        clock.advance(29)
        assert fetch(store) == []
        clock.advance(1)
        assert fetch_one(store).id == run.id

    def test_a_released_run_spends_no_attempt(self, store: Store) -> None:
        """The attempt is what the settlement says it is."""
        run = running(store)
        settle(store, released(run))
        again = fetch_one(store)
        assert (again.run, again.attempt) == (2, 0)
        assert [line.outcome for line in store.attempts(run.id)] == ["released"]

    def test_a_released_run_keeps_its_place(self, store: Store, clock: FrozenClock) -> None:
        """A run that ends as available without a delay, and with no attempt spent, keeps its place."""
        run = running(store)
        before = record(store, run.id).run_at
        clock.advance(10)
        add(store)
        clock.advance(10)
        settle(store, released(run))
        assert record(store, run.id).run_at == before
        assert fetch_one(store).id == run.id

    def test_a_delay_of_nothing_is_a_delay(self, store: Store, clock: FrozenClock) -> None:
        """A run that ends as available is due after its delay, be it 0: it goes to the end of the line."""
        run = running(store)
        clock.advance(10)
        other = add(store)
        clock.advance(10)
        settle(store, ended(run, State.AVAILABLE, delay=0.0))
        assert record(store, run.id).run_at == clock.now()
        assert [found.id for found in fetch(store, 2)] == [other, run.id]

    def test_a_cancelled_run(self, store: Store) -> None:
        """Ends runs: one that stopped because it was asked to keeps the reason."""
        run = running(store)
        settle(store, cancelled(run, "no longer wanted"))
        found = record(store, run.id)
        assert (found.state, found.reason) == (State.CANCELLED, "no longer wanted")
        assert [(line.outcome, line.reason) for line in store.attempts(run.id)] == [("cancelled", "no longer wanted")]

    def test_a_parked_run(self, store: Store) -> None:
        """Ends runs: one that cannot be resolved is kept with its reason, and is not fetched."""
        run = running(store)
        settle(store, parked(run, "no task named demo"))
        found = record(store, run.id)
        assert (found.state, found.reason) == (State.PARKED, "no task named demo")
        assert fetch(store) == []

    def test_a_step_moves_the_cursor(self, store: Store) -> None:
        """A run may end with its job available again further on, attempts begun anew."""
        run = running(store)
        settle(store, retried(run))
        again = fetch_one(store)
        settle(store, ended(again, State.AVAILABLE, cursor="step:2", attempt=0))
        third = fetch_one(store)
        assert (third.cursor, third.attempt, third.run) == ("step:2", 0, 3)
        assert len(store.attempts(run.id)) == 1

    def test_history_is_kept_where_it_is_named(self, store: Store) -> None:
        """`history` names the line that is kept of this run, if one is; oldest first."""
        run = running(store)
        for end in (retried, released, retried):
            settle(store, end(run))
            run = fetch_one(store)
        settle(store, completed(run))
        lines = store.attempts(run.id)
        assert [(line.run, line.outcome) for line in lines] == [(1, "retry"), (2, "released"), (3, "retry")]

    def test_settle_answers_each(self, store: Store) -> None:
        """One transaction for all, and answers for each."""
        store.add([a_job() for _ in range(3)])
        first, second, third = fetch(store, 3, worker="w.1")
        settle(store, completed(second))
        store.reap("w.1")
        fetch(store, 1, worker="w.2")
        answers = store.settle([completed(first), completed(second), completed(third)])
        assert answers == [Answer.STALE, Answer.ALREADY, Answer.STALE]

    def test_a_stale_settlement_holds_up_no_other(self, store: Store) -> None:
        """Answers for each: what is refused does not keep the others from being recorded."""
        stale = running(store, worker="w.1")
        store.reap("w.1")
        store.add([a_job() for _ in range(2)])
        _, first, second = fetch(store, 3, worker="w.2")
        assert store.settle([completed(first), completed(stale), failed(second)]) == [
            Answer.OK,
            Answer.STALE,
            Answer.OK,
        ]
        assert (state(store, first.id), state(store, second.id)) == (State.COMPLETED, State.FAILED)

    def test_the_result_is_that_of_the_last_run(self, store: Store) -> None:
        """What a run came to replaces what the run before left."""
        run = running(store)
        settle(store, ended(run, State.AVAILABLE, cursor="step:2", result='"step one"'))
        assert record(store, run.id).result == '"step one"'
        settle(store, completed(fetch_one(store), None))
        assert record(store, run.id).result is None

    def test_settle_of_nothing(self, store: Store) -> None:
        """Answers for each: none, for none."""
        assert store.settle([]) == []

    def test_settle_takes_many_at_once(self, store: Store) -> None:
        """One transaction for all, whatever they come to."""
        store.add([a_job() for _ in range(1000)])
        runs = fetch(store, 1000)
        ends = [(completed, failed, retried, cancelled, parked)[n % 5](run) for n, run in enumerate(runs)]
        assert store.settle(ends) == [Answer.OK] * 1000
        for n, wanted in enumerate([State.COMPLETED, State.FAILED, State.AVAILABLE, State.CANCELLED, State.PARKED]):
            assert {job.state for job in store.get([run.id for run in runs[n::5]])} == {wanted}

    @pytest.mark.parametrize("end", [completed, failed, retried, released, cancelled, parked])
    def test_settle_sent_twice_has_the_same_end_state(self, store: Store, end: End) -> None:
        """The same settlement sent again answers `already` and changes nothing."""
        run = running(store, key="k")
        assert settle(store, end(run)) is Answer.OK
        before = snapshot(store), store.attempts(run.id)
        assert settle(store, end(run)) is Answer.ALREADY
        assert (snapshot(store), store.attempts(run.id)) == before

    @pytest.mark.parametrize("end", [completed, failed, retried, cancelled, parked])
    def test_the_same_settlement_twice_in_one_call(self, store: Store, end: End) -> None:
        """The same settlement again changes nothing, in the same call, too."""
        run = running(store)
        assert store.settle([end(run), end(run)]) == [Answer.OK, Answer.ALREADY]
        assert len(store.attempts(run.id)) == (0 if end is completed else 1)

    def test_a_run_is_settled_once(self, store: Store) -> None:
        """A completed job never changes again, whatever its run says later."""
        run = running(store)
        settle(store, completed(run, '"first"'))
        before = record(store, run.id)
        for end in (failed, retried, cancelled, parked, completed):
            assert settle(store, end(run)) is Answer.ALREADY
        assert record(store, run.id) == before

    def test_an_earlier_run_changes_nothing(self, store: Store) -> None:
        """Only the run that owns the job changes it."""
        first = running(store, worker="w.1")
        store.reap("w.1")
        second = fetch_one(store, worker="w.2")
        assert settle(store, completed(first, '"stale"')) is Answer.STALE
        assert (state(store, first.id), record(store, first.id).worker) == (State.RUNNING, "w.2")
        assert settle(store, completed(second, '"mine"')) is Answer.OK
        assert settle(store, completed(first, '"stale"')) is Answer.STALE
        assert record(store, first.id).result == '"mine"'

    def test_a_run_that_was_handed_back_is_stale(self, store: Store) -> None:
        """Only the run that owns the job changes it, even while nobody else does."""
        run = running(store, worker="w.1")
        store.reap("w.1")
        before = snapshot(store)
        assert settle(store, completed(run)) is Answer.STALE
        assert snapshot(store) == before

    def test_a_run_that_was_not_fetched_is_stale(self, store: Store) -> None:
        """Only the run that owns the job changes it: not one that nobody was given."""
        id = add(store)
        invented = ended(fetch_one_of(id, run=1), State.COMPLETED)
        assert settle(store, invented) is Answer.STALE
        assert state(store, id) is State.AVAILABLE

    def test_an_unknown_job_is_stale(self, store: Store) -> None:
        """A settlement of a job that is not stored, or not any more, changes nothing."""
        assert settle(store, ended(fetch_one_of(new_id(), run=1), State.COMPLETED)) is Answer.STALE

    def test_a_run_settles_after_it_was_asked_to_stop(self, store: Store) -> None:
        """A run that was asked to stop still owns its job."""
        run = running(store)
        store.cancel(Filter(ids=(run.id,)), reason="no")
        assert settle(store, completed(run)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.stopping) == (State.COMPLETED, False)

    def test_one_of_two_threads_settles_a_run(self, store: Store) -> None:
        """The same settlement sent again answers `already`, however close behind."""
        for _ in range(50):
            run = running(store)
            answers = together(*[lambda run=run: settle(store, completed(run)) for _ in range(2)])
            assert sorted(answers) == [Answer.ALREADY, Answer.OK]


def fetch_one_of(id: str, run: int) -> Fetched:
    """A run that no store gave out."""
    return Fetched(id, run, "demo", "default", 0, 0, 0, None, None, None, None, 0.0, "[]")


class ExchangeConformance(Conformance):
    """The worker's one round trip."""

    def test_exchange_settles_then_fetches(self, store: Store) -> None:
        """`settle`, then `fetch`."""
        first = running(store)
        second = add(store)
        answers, runs = store.exchange([completed(first)], a_claim())
        assert answers == [Answer.OK]
        assert [run.id for run in runs] == [second]

    def test_exchange_may_fetch_what_it_settled(self, store: Store) -> None:
        """`settle`, then `fetch`: a job that is due at once again may come straight back."""
        run = running(store)
        _, (again,) = store.exchange([retried(run)], a_claim())
        assert (again.id, again.run) == (run.id, 2)

    def test_exchange_may_fetch_what_it_released(self, store: Store) -> None:
        """`settle`, then `fetch`: the last piece's settlement makes the compose fetchable at once."""
        id, _ = split(store, 1)
        piece = fetch_one(store)
        _, (compose,) = store.exchange([completed(piece)], a_claim())
        assert (compose.id, compose.cursor) == (id, "compose")

    def test_exchange_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """In one transaction: sent again, it answers `already` and gives the same jobs."""
        run = running(store)
        store.add([a_job() for _ in range(3)])
        claim = a_claim(limit=2)
        _, runs = store.exchange([retried(run)], claim)
        before = snapshot(store)
        answers, again = store.exchange([retried(run)], claim)
        assert answers == [Answer.ALREADY]
        assert again == runs
        assert snapshot(store) == before

    def test_exchange_of_nothing_for_nothing(self, store: Store) -> None:
        """Both halves may be empty."""
        assert store.exchange([], a_claim(limit=0)) == ([], [])

    def test_workers_exchange_side_by_side(self, store: Store) -> None:
        """Workers that settle and fetch at once lose nothing and do nothing twice."""
        ids = store.add([a_job() for _ in range(300)])
        done: list[str] = []
        lock = threading.Lock()

        def work(worker: str) -> None:
            runs = fetch(store, 5, worker=worker)
            while runs:
                with lock:
                    done.extend(run.id for run in runs)
                answers, runs = store.exchange([completed(run) for run in runs], a_claim(worker, 5))
                assert set(answers) == {Answer.OK}

        together(*[lambda n=n: work(f"w.{n}") for n in range(6)])
        assert Counter(done) == Counter(ids)
        assert store.count(Filter(state=State.COMPLETED)) == 300


class ReportConformance(Conformance):
    """What passes between a running job and its worker."""

    def test_report_stores_progress(self, store: Store) -> None:
        """Stores the progress of jobs that this worker runs."""
        run = running(store, worker="w.1")
        assert store.report("w.1", {run.id: Progress(3, 10, "third")}) == []
        assert record(store, run.id).progress == Progress(3, 10, "third")
        store.report("w.1", {run.id: Progress(4.5)})
        assert record(store, run.id).progress == Progress(4.5)

    def test_report_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        run = running(store, worker="w.1")
        store.report("w.1", {run.id: Progress(1)})
        before = snapshot(store)
        store.report("w.1", {run.id: Progress(1)})
        assert snapshot(store) == before

    def test_report_is_fenced_by_the_worker(self, store: Store) -> None:
        """Stores the progress of jobs that this worker runs, not of others."""
        run = running(store, worker="w.1")
        store.report("w.2", {run.id: Progress(1), new_id(): Progress(2)})
        assert record(store, run.id).progress is None

    def test_report_changes_no_job_that_has_ended(self, store: Store) -> None:
        """A job that ended runs no longer: its progress stays."""
        run = running(store, worker="w.1")
        settle(store, completed(run))
        before = record(store, run.id)
        store.report("w.1", {run.id: Progress(1)})
        assert record(store, run.id) == before

    def test_report_tells_who_was_asked_to_stop(self, store: Store) -> None:
        """Returns the ids of those that were asked to stop."""
        store.add([a_job(), a_job()])
        first, second = fetch(store, 2, worker="w.1")
        store.cancel(Filter(ids=(second.id,)), reason="no")
        assert store.report("w.1", {first.id: Progress(1), second.id: Progress(1)}) == [second.id]
        assert store.report("w.1", {}) == [second.id]
        assert store.report("w.2", {}) == []

    def test_report_forgets_a_stop_that_was_answered(self, store: Store) -> None:
        """A job that has stopped is not asked again."""
        run = running(store, worker="w.1")
        store.cancel(Filter(ids=(run.id,)), reason="no")
        settle(store, cancelled(run))
        assert store.report("w.1", {}) == []

    def test_report_asks_the_running_pieces_of_a_stopped_batch(self, store: Store) -> None:
        """A cancelled split asks its running pieces to stop."""
        id, pieces = split(store, 3)
        runs = fetch(store, 2, worker="w.1", queue="leaves")
        store.cancel(Filter(ids=(id,)), reason="no")
        assert sorted(store.report("w.1", {})) == sorted(run.id for run in runs) == sorted(pieces[:2])

    def test_nothing_to_report(self, store: Store) -> None:
        """A worker may report nothing."""
        assert store.report("w.9", {}) == []

    def test_the_split_itself_may_be_asked(self, store: Store) -> None:
        """A splitter that still splits runs, and may be asked to stop."""
        run = running(store, queue=SPLITS, worker="w.1")
        store.cancel(Filter(ids=(run.id,)), reason="no")
        assert store.report("w.1", {}) == [run.id]
        assert record(store, run.id).stopping

    def test_the_error_of_a_retried_run_is_seen(self, store: Store) -> None:
        """A job that will be tried again shows why its last run ended."""
        run = running(store)
        settle(store, retried(run, delay=5))
        assert record(store, run.id).error == BAD_BODY
