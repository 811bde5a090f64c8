"""What sessions promise, and how the jobs of the dead come back."""

from __future__ import annotations

from functools import partial

import pytest

from piecework.errors import LeaseLost, UsageError
from piecework.job import Answer, BatchState, Fetched, Filter, OnFailure, State
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    SPLITS,
    Conformance,
    a_claim,
    a_job,
    a_session,
    a_worker,
    add,
    assert_named_as_failed,
    batch,
    cancelled,
    completed,
    everything,
    failed,
    fetch,
    fetch_one,
    leaves,
    offer,
    pieces_of,
    record,
    retried,
    running,
    settle,
    snapshot,
    split,
    splitting,
    state,
    states,
    tally,
    together,
)


def beat_of(store: Store, session: str) -> int | None:
    return next((found.beat for found in store.sessions() if found.id == session), None)


def polled_at(store: Store, session: str) -> float | None:
    return next(found.polled_at for found in store.sessions() if found.id == session)


class SessionConformance(Conformance):
    """Sessions, their beats and their end."""

    def test_enlist_registers_a_session(self, store: Store) -> None:
        """Registers a session; `sessions` lists those that have not ended."""
        store.enlist(a_session("s", beat=3))
        assert a_session("s", beat=3) in store.sessions()

    def test_enlist_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state: no beat is lost."""
        store.enlist(a_session("s"))
        store.renew("s")
        store.enlist(a_session("s"))
        assert [session.beat for session in store.sessions() if session.id == "s"] == [1]

    def test_renew_raises_the_beat_by_one(self, store: Store, clock: FrozenClock) -> None:
        """Raises the session's beat by one."""
        store.enlist(a_session("s"))
        store.enlist(a_session("t"))
        clock.advance(5)
        assert store.renew("s") is True
        assert (beat_of(store, "s"), beat_of(store, "t")) == (1, 0)
        assert next(found.seen_at for found in store.sessions() if found.id == "s") == clock.now()
        assert store.renew("s") is True
        assert beat_of(store, "s") == 2

    def test_renew_notes_when_the_workers_looked(self, store: Store, clock: FrozenClock) -> None:
        """With `polled`, notes that its workers looked that many seconds ago, by the store's clock; without, nothing."""
        store.enlist(a_session("s"))
        assert polled_at(store, "s") is None
        clock.advance(100)
        store.renew("s", polled=2.5)
        seen = clock.now() - 2.5
        assert polled_at(store, "s") == pytest.approx(seen)
        clock.advance(5)
        store.renew("s")
        assert polled_at(store, "s") == pytest.approx(seen)

    def test_the_store_tells_its_own_time(self, store: Store, clock: FrozenClock) -> None:
        """The time by which the age of what it keeps is told."""
        store.enlist(a_session("s"))
        store.renew("s", polled=0.0)
        clock.advance(7)
        assert store.now() - (polled_at(store, "s") or 0.0) == pytest.approx(7)

    def test_renew_says_when_the_session_was_declared_dead(self, store: Store) -> None:
        """False when the session was declared dead; it does not come to life again."""
        store.enlist(a_session("s"))
        store.bury("s")
        assert store.renew("s") is False
        assert beat_of(store, "s") is None

    def test_renew_of_a_session_that_never_was(self, store: Store) -> None:
        """A session that was never enlisted has no beat."""
        assert store.renew("nobody") is False
        assert beat_of(store, "nobody") is None

    def test_a_worker_without_a_session_gets_no_work(self, store: Store) -> None:
        """A worker whose session is not enlisted gets `LeaseLost`."""
        id = add(store)
        with pytest.raises(LeaseLost):
            store.fetch(a_claim("nobody.1"))
        assert state(store, id) is State.AVAILABLE

    def test_a_worker_whose_session_was_buried_gets_no_work(self, store: Store) -> None:
        """A worker whose session was buried gets `LeaseLost`, from `exchange`, too."""
        id = add(store)
        store.enlist(a_session("s"))
        store.bury("s")
        with pytest.raises(LeaseLost):
            store.fetch(a_claim("s.1"))
        with pytest.raises(LeaseLost):
            store.exchange([], a_claim("s.1"))
        assert state(store, id) is State.AVAILABLE

    def test_an_idle_worker_is_told_that_its_session_was_buried(self, store: Store) -> None:
        """It gets `LeaseLost` even where there is no work."""
        with pytest.raises(LeaseLost):
            store.fetch(a_claim("nobody.1"))

    def test_bury_returns_the_jobs_of_all_workers(self, store: Store) -> None:
        """Ends a session and returns its running jobs to their queues; answers how many."""
        ids = store.add([a_job() for _ in range(3)])
        store.enlist(a_session("s"))
        fetch(store, 2, worker="s.0")
        fetch(store, 1, worker="s.1")
        assert store.bury("s") == 3
        assert states(store, ids) == [State.AVAILABLE] * 3
        assert beat_of(store, "s") is None

    def test_bury_spends_no_attempt(self, store: Store) -> None:
        """Jobs come back as they were: due, no attempt spent, no crash charged, and their run does not go back."""
        store.enlist(a_session("s"))
        run = running(store, worker="s.0")
        store.bury("s")
        again = fetch_one(store)
        assert (again.id, again.run, again.attempt, again.crashes) == (run.id, 2, 0, 0)

    def test_bury_tells_a_session_that_was_ended_from_a_silent_one(self, store: Store) -> None:
        """The history of each job says which it was, whatever queue it is from."""
        ids = [add(store, queue=f"q{n}") for n in range(6)]
        for session, beat in (("s", 0), ("t", None)):
            store.enlist(a_session(session))
            fetch(store, len(ids), worker=f"{session}.0")
            assert store.bury(session, beat) == len(ids)
        ((silent, ended),) = {tuple(line.reason for line in store.attempts(id)) for id in ids}
        assert silent != ended

    def test_jobs_come_back_to_the_head_of_their_queue(self, store: Store, clock: FrozenClock) -> None:
        """A job that was handed back has not lost its place."""
        store.enlist(a_session("s"))
        run = running(store, worker="s.0")
        clock.advance(10)
        add(store)
        store.bury("s")
        assert fetch_one(store).id == run.id

    def test_bury_leaves_the_jobs_of_others(self, store: Store) -> None:
        """A worker is named `<session>.<n>`: names that only look alike belong to others."""
        names = ["s", "s1", "S", "s_", "s%", "sx", "_", "xs"]
        for name in names:
            store.enlist(a_session(name))
        ids = {name: running(store, worker=f"{name}.1").id for name in names}
        for name in ("s_", "s%", "s", "_"):
            assert store.bury(name) == 1
            assert state(store, ids[name]) is State.AVAILABLE
            fetch_one(store)
        assert {state(store, ids[name]) for name in ("s1", "S", "sx", "xs")} == {State.RUNNING}
        assert {record(store, ids[name]).worker for name in ("s1", "S", "sx", "xs")} == {"s1.1", "S.1", "sx.1", "xs.1"}

    def test_bury_leaves_what_does_not_run(self, store: Store) -> None:
        """Returns its running jobs: those that have ended, or wait for their next try, stay as they are."""
        store.enlist(a_session("s"))
        store.add([a_job() for _ in range(3)])
        first, second, third = fetch(store, 3, worker="s.0")
        store.settle([completed(first), retried(second, delay=60)])
        before = store.get([first.id, second.id])
        assert store.bury("s") == 1
        assert store.get([first.id, second.id]) == before
        assert state(store, third.id) is State.AVAILABLE

    def test_bury_with_the_beat_it_saw(self, store: Store) -> None:
        """With `beat`, if the session's beat is still that one."""
        store.enlist(a_session("s"))
        store.renew("s")
        run = running(store, worker="s.0")
        assert store.bury("s", beat=1) == 1
        assert state(store, run.id) is State.AVAILABLE

    def test_bury_with_another_beat_changes_nothing(self, store: Store) -> None:
        """Else None, and nothing is changed."""
        store.enlist(a_session("s"))
        running(store, worker="s.0")
        store.renew("s")
        before = snapshot(store)
        assert store.bury("s", beat=0) is None
        assert snapshot(store) == before
        assert store.renew("s") is True

    def test_bury_of_a_session_without_jobs(self, store: Store) -> None:
        """Answers how many: none is a number, too."""
        store.enlist(a_session("s"))
        assert store.bury("s", beat=0) == 0

    def test_bury_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state."""
        store.enlist(a_session("s"))
        running(store, worker="s.0")
        store.bury("s", beat=0)
        before = snapshot(store)
        assert store.bury("s", beat=0) is None
        assert not store.bury("s")
        assert snapshot(store) == before

    def test_a_buried_worker_settles_nothing(self, store: Store) -> None:
        """A stale worker's late answer is refused."""
        store.enlist(a_session("s"))
        run = running(store, worker="s.0")
        store.bury("s")
        settle(store, completed(run))
        assert state(store, run.id) is State.AVAILABLE

    def test_one_of_many_buries_a_session(self, store: Store) -> None:
        """Of many that saw the same beat, one buries the session, and each tells of the jobs that it returned itself."""
        store.enlist(a_session("s"))
        store.add([a_job() for _ in range(5)])
        fetch(store, 5, worker="s.0")
        answers = together(*[lambda: store.bury("s", beat=0) for _ in range(8)])
        assert sum(answer or 0 for answer in answers) == 5
        assert answers.count(0) <= 1  # who ended it and found that all had been returned
        assert "s" not in [session.id for session in store.sessions()]
        assert [job.state for job in everything(store)] == [State.AVAILABLE] * 5

    def test_a_piece_that_comes_back_is_still_open(self, store: Store) -> None:
        """A piece that was handed back has not ended."""
        id, _ = split(store, 2)
        store.enlist(a_session("s"))
        leaves(store, worker="s.0")
        store.bury("s")
        assert tally(store, id) == (2, 0, 0, 0)
        assert len(leaves(store)) == 2

    def test_the_history_tells_that_a_run_was_handed_back(self, store: Store) -> None:
        """A run that did not complete leaves a line."""
        store.enlist(a_session("s"))
        run = running(store, worker="s.0")
        store.bury("s")
        assert [(line.run, line.outcome, line.worker) for line in store.attempts(run.id)] == [(1, "released", "s.0")]


def fetched_or_refused(store: Store, worker: str) -> list[Fetched]:
    try:
        return fetch(store, worker=worker)
    except LeaseLost:
        return []


class ReapConformance(Conformance):
    """A worker whose supervisor knows that it died."""

    def test_reap_returns_the_jobs_of_one_worker(self, store: Store) -> None:
        """Returns the running jobs of one worker to their queues, and answers their ids."""
        ids = store.add([a_job() for _ in range(3)])
        fetch(store, 2, worker="w.1")
        fetch(store, 1, worker="w.11")
        assert sorted(store.reap("w.1")) == sorted(ids[:2])
        assert states(store, ids) == [State.AVAILABLE, State.AVAILABLE, State.RUNNING]

    def test_reap_spends_no_attempt(self, store: Store) -> None:
        """No attempt is spent, and no crash charged to who is not named."""
        run = running(store, worker="w.1")
        settle(store, retried(run))
        fetch_one(store, worker="w.1")
        store.reap("w.1", reason="killed by signal 9")
        again = fetch_one(store, worker="w.2")
        assert (again.run, again.attempt, again.crashes) == (3, 1, 0)

    def test_a_worker_that_was_reaped_gets_nothing(self, store: Store) -> None:
        """The worker is over: a fetch of it that arrives later, however long it was on its way, gets `LeaseLost`."""
        id = add(store)
        asked = a_claim("w.2", limit=5)
        assert [run.id for run in store.fetch(asked)] == [id]
        store.reap("w.2")
        for late in (asked, a_claim("w.2", limit=5), a_claim("w.2", limit=0)):
            with pytest.raises(LeaseLost):
                store.fetch(late)
            with pytest.raises(LeaseLost):
                store.exchange([], late)
        assert (state(store, id), record(store, id).run) == (State.AVAILABLE, 1)
        assert fetch_one(store, worker="w.3").id == id

    def test_a_worker_that_was_reaped_settles_nothing(self, store: Store) -> None:
        """What it ended comes too late as well: the job is another's, and the next run of an operation is nobody's."""
        run = running(store, worker="w.2")
        store.reap("w.2")
        with pytest.raises(LeaseLost):
            store.exchange([completed(run)], a_claim("w.2"))
        assert state(store, run.id) is State.AVAILABLE
        again = fetch_one(store, worker="w.3")
        with pytest.raises(LeaseLost):
            store.exchange([completed(run)], a_claim("w.2"))
        assert settle(store, completed(again)) is Answer.OK

    def test_reap_is_kept_for_each_worker_of_each_session(self, store: Store) -> None:
        """That worker, and no other: whoever was reaped before, after it or between, of whichever session."""
        over = [2, 9, 4, 3, 7, 11, 10, 8, 0, 1_000_000]
        for number in over:
            store.reap(f"w.{number}")
        for number in (*range(13), 999_999, 1_000_000, 1_000_001):
            asked = a_claim(f"w.{number}")
            if number in over:
                with pytest.raises(LeaseLost):
                    store.fetch(asked)
            else:
                assert store.fetch(asked) == []
        assert fetch(store, worker="splitter.2") == []
        store.renew("w", polled=1.0)
        with pytest.raises(LeaseLost):
            fetch(store, worker="w.4")

    def test_a_worker_that_never_had_a_job_can_be_reaped(self, store: Store) -> None:
        """It may have asked for work, and not been heard yet."""
        add(store)
        assert store.reap("w.2") == []
        with pytest.raises(LeaseLost):
            fetch(store, worker="w.2")

    def test_reap_in_a_session_that_has_ended(self, store: Store) -> None:
        """It is over as well, with nothing to be noted; a session is not begun by it."""
        assert store.reap("gone.1") == []
        assert "gone" not in [session.id for session in store.sessions()]
        with pytest.raises(LeaseLost):
            fetch(store, worker="gone.1")

    @pytest.mark.parametrize("name", ["w", "w.", ".1", "w.one", "w.-1", ""])
    def test_reap_refuses_what_is_no_workers_name(self, store: Store, name: str) -> None:
        """Its workers are named `<session>.<n>`."""
        with pytest.raises(UsageError, match="not the name of a worker"):
            store.reap(name)

    def test_reap_and_a_late_fetch_at_once(self, store: Store) -> None:
        """Whichever comes first, no job stays with a worker that is over."""
        for _ in range(20):
            worker, id = a_worker(), add(store)
            _, run = together(partial(store.reap, worker), partial(fetched_or_refused, store, worker))
            assert store.holds(worker) == []
            assert state(store, id) is State.AVAILABLE
            again = fetch_one(store)
            assert again.run == (2 if run else 1)
            settle(store, completed(again))

    def test_reap_leaves_the_session(self, store: Store) -> None:
        """One worker of a session dies; the session lives."""
        store.enlist(a_session("s"))
        running(store, worker="s.0")
        store.reap("s.0")
        assert store.renew("s") is True
        assert len(fetch(store, worker="s.1")) == 1

    def test_reap_charges_those_who_crashed(self, store: Store) -> None:
        """The jobs named in `crashed` are charged with a crash."""
        store.add([a_job(), a_job()])
        first, second = fetch(store, 2, worker="w.1")
        store.reap("w.1", crashed=[first.id], reason="killed by signal 11")
        assert (record(store, first.id).crashes, record(store, second.id).crashes) == (1, 0)
        assert states(store, [first.id, second.id]) == [State.AVAILABLE] * 2
        (line,) = store.attempts(first.id)
        assert (line.outcome, line.run, line.worker) == ("crashed", 1, "w.1")
        assert line.reason is not None
        assert "killed by signal 11" in line.reason

    def crash(self, store: Store, times: int, **fields: int) -> None:
        for _ in range(times):
            worker = a_worker()
            run = fetch_one(store, worker=worker)
            store.reap(worker, crashed=[run.id], reason="killed by signal 11", **fields)

    def test_reap_parks_at_the_crash_limit(self, store: Store) -> None:
        """And parked when that makes `crash_limit`."""
        id = add(store)
        self.crash(store, 2)
        assert (state(store, id), record(store, id).crashes) == (State.AVAILABLE, 2)
        self.crash(store, 1)
        found = record(store, id)
        assert (found.state, found.crashes, found.attempt) == (State.PARKED, 3, 0)
        assert found.reason is not None
        assert "killed by signal 11" in found.reason
        assert fetch(store) == []

    def test_reap_parks_at_once_where_the_limit_says_so(self, store: Store) -> None:
        """`crash_limit` is the caller's."""
        id = add(store)
        self.crash(store, 1, crash_limit=1)
        assert state(store, id) is State.PARKED

    def test_one_that_was_asked_to_stop_is_cancelled_not_parked(self, store: Store) -> None:
        """A job that was asked to stop is cancelled instead."""
        run = running(store, worker="w.1")
        store.cancel(Filter(ids=(run.id,)), reason="seen enough", by="ann")
        store.reap("w.1", crashed=[run.id], reason="killed by signal 11", crash_limit=1)
        found = record(store, run.id)
        assert (found.state, found.reason, found.stopped_by) == (State.CANCELLED, "seen enough", "ann")

    def test_crashes_are_counted_over_runs(self, store: Store) -> None:
        """Crashes are counted apart from attempts; a run that ends otherwise takes none back."""
        id = add(store)
        self.crash(store, 2)
        settle(store, retried(fetch_one(store)))
        assert record(store, id).crashes == 2
        self.crash(store, 1)
        assert state(store, id) is State.PARKED

    def test_a_crashed_job_that_is_retried_begins_anew(self, store: Store) -> None:
        """Retried, a job that was parked for crashing has its whole limit again."""
        id = add(store)
        self.crash(store, 3)
        assert store.retry(Filter(ids=(id,))) == 1
        assert (state(store, id), record(store, id).crashes) == (State.AVAILABLE, 0)

    def test_a_parked_crasher_counts_as_a_failed_piece(self, store: Store) -> None:
        """A piece that is parked for crashing ends its batch's waiting: it counts as failed."""
        id, (piece,) = split(store, ["a"])
        self.crash(store, 3)
        assert state(store, piece) is State.PARKED
        assert tally(store, id) == (0, 0, 1, 0)
        assert_named_as_failed(store, id, "a")

    def test_a_parked_crasher_fails_a_fail_fast_batch(self, store: Store) -> None:
        """In a `fail_fast` batch it fails the batch at once."""
        id, pieces = split(store, 2, OnFailure.FAIL_FAST)
        run = leaves(store, 1, worker="w.1")[0]
        store.reap("w.1", crashed=[run.id], crash_limit=1)
        assert batch(store, id).state is BatchState.FAILED
        assert leaves(store, worker="w.2") == []
        assert states(store, pieces) == [State.PARKED, State.CANCELLED]

    def test_a_parked_crasher_may_be_retried(self, store: Store) -> None:
        """Retried, it opens its batch again; good now, it releases what waits."""
        id, pieces = split(store, 2)
        runs = leaves(store, 2, worker="w.1")
        settle(store, completed(runs[1]))
        store.reap("w.1", crashed=[runs[0].id], crash_limit=1)
        assert state(store, id) is State.FAILED
        assert store.retry(Filter(ids=(pieces[0],))) == 1
        assert tally(store, id) == (1, 1, 0, 0)
        settle(store, completed(leaves(store, worker="w.2")[0]))
        assert state(store, id) is State.AVAILABLE

    def test_reap_sent_twice_has_the_same_end_state(self, store: Store) -> None:
        """Every mutating verb may be sent twice with the same end state: no crash is charged twice."""
        store.add([a_job(), a_job()])
        first, _ = fetch(store, 2, worker="w.1")
        store.reap("w.1", crashed=[first.id])
        before = snapshot(store), store.attempts(first.id)
        assert store.reap("w.1", crashed=[first.id]) == []
        assert (snapshot(store), store.attempts(first.id)) == before

    def test_reap_charges_no_job_of_another_worker(self, store: Store) -> None:
        """Only jobs of that worker: a job that it lost since is another's."""
        run = running(store, worker="w.2")
        assert store.reap("w.1", crashed=[run.id], crash_limit=1) == []
        assert (state(store, run.id), record(store, run.id).crashes) == (State.RUNNING, 0)

    def test_a_job_that_was_asked_to_stop_does_not_come_back(self, store: Store) -> None:
        """A job that was asked to stop, and whose worker died, has stopped."""
        run = running(store, worker="w.1")
        store.cancel(Filter(ids=(run.id,)), reason="no longer wanted")
        store.reap("w.1")
        assert (state(store, run.id), record(store, run.id).reason) == (State.CANCELLED, "no longer wanted")

    def test_a_piece_that_was_asked_to_stop_is_counted_as_cancelled(self, store: Store) -> None:
        """The same for a piece: its batch does not wait for it."""
        id, _ = split(store, 1)
        run = leaves(store, worker="w.1")[0]
        store.cancel(Filter(ids=(run.id,)), reason="no")
        store.reap("w.1")
        assert tally(store, id) == (0, 0, 0, 1)
        assert state(store, id) is State.FAILED

    def test_a_splitter_that_was_asked_to_stop_takes_its_pieces_along(self, store: Store) -> None:
        """A splitter that was asked to stop, and whose worker died, stops with its pieces."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        store.cancel(Filter(ids=(run.id,)), reason="no")
        store.reap("splitter.1")
        assert (state(store, run.id), batch(store, run.id).state) == (State.CANCELLED, BatchState.STOPPED)
        assert leaves(store) == []

    def test_a_splitter_comes_back_as_it_was(self, store: Store) -> None:
        """A splitter that was handed back splits again: its cursor is where it was."""
        run = splitting(store)
        offer(store, run, pieces_of(run, 2))
        store.reap("splitter.1")
        again = fetch_one(store, queue=SPLITS)
        assert (again.id, again.run, again.cursor) == (run.id, 2, None)

    def test_reap_and_a_late_answer_at_once(self, store: Store) -> None:
        """Whichever comes first, the job is handed back or settled, never both."""
        for _ in range(50):
            worker = a_worker()
            run = running(store, worker=worker)
            reaped, answer = together(partial(store.reap, worker), partial(settle, store, failed(run)))
            assert (reaped == [run.id]) is (answer != "ok")
            if reaped:
                settle(store, cancelled(fetch_one(store)))
