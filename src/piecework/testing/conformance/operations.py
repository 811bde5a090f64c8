"""Operations: how they start, move on, keep their worker, and what is found of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from piecework.errors import LeaseLost
from piecework.job import (
    FIRST_RUNS,
    LAST_RUNS,
    Amendment,
    Answer,
    Change,
    Claim,
    ErrorInfo,
    Fence,
    Fetched,
    Filter,
    NewBatch,
    NewJob,
    NewOperation,
    NewSignal,
    OperationRecord,
    Progress,
    State,
)
from piecework.outcome import Advance, Settlement
from piecework.store.protocol import Store
from piecework.testing.clock import FrozenClock
from piecework.testing.conformance.kit import (
    BAD_BODY,
    Conformance,
    a_claim,
    a_job,
    add,
    ended,
    everything,
    fetch,
    fetch_one,
    record,
    retried,
    running,
    settle,
    snapshot,
    state,
    together,
)

FIRST = "main/a/1"  # where the operations of the tests begin


def change(key: str, value: Any, *terms: str) -> Change:
    return Change(key, json.dumps(value), terms)


def gone(key: str) -> Change:
    return Change(key, None)


def an_operation(id: str | None = None, *changes: Change, **fields: Any) -> NewJob:
    """An operation nobody cares about the details of: fields of the job, and of what makes it an operation."""
    own = {name: fields.pop(name) for name in NewOperation.__struct_fields__ if name in fields}
    operation = NewOperation(**{"cursor": FIRST, "digest": "d1", "plan": '{"p":1}', "globals": changes, **own})
    return a_job(id, operation=operation, **fields)


def start(store: Store, *changes: Change, **fields: Any) -> str:
    (id,) = store.add([an_operation(None, *changes, **fields)])
    return id


def started(store: Store, *changes: Change, **fields: Any) -> Fetched:
    """Starts an operation in an otherwise idle store and fetches it."""
    id = start(store, *changes, **fields)
    run = fetch_one(store)
    assert run.id == id
    return run


def stepped(
    run: Fetched, cursor: str = "main/b/2", state: State = State.RUNNING, *changes: Change, **fields: Any
) -> Settlement:
    """A step that completed: where the operation goes on, and what it changed."""
    own = {name: fields.pop(name) for name in Advance.__struct_fields__ if name in fields}
    return ended(
        run,
        state,
        **{
            "attempt": run.attempt + 1,
            "cursor": cursor,
            "history": "completed",
            "advance": Advance(**{"at": run.cursor or "", "changes": changes, **own}),
            **fields,
        },
    )


def next_run(store: Store, run: Fetched) -> Fetched:
    """The run of an operation that went on in its worker, as that worker knows it."""
    found = record(store, run.id)
    assert (found.state, found.run) == (State.RUNNING, run.run + 1)
    return Fetched(
        run.id, found.run, run.task, found.queue, found.priority, found.attempt, found.crashes, found.batch, found.root,
        found.cursor, run.options, found.started_at or 0.0, run.args,
    )  # fmt: skip


def kept(store: Store, run: Fetched, cursor: str = "main/b/2", *changes: Change) -> Fetched:
    """Completes a step and goes on in the same worker."""
    assert settle(store, stepped(run, cursor, State.RUNNING, *changes)) is Answer.OK
    return next_run(store, run)


def operation(store: Store, id: str) -> OperationRecord:
    (found,) = store.operations([id])
    return found


def globals_of(store: Store, id: str) -> Any:
    return json.loads(operation(store, id).globals)


def lines(store: Store, id: str) -> list[tuple[int, str, str | None]]:
    """What the history says: run, outcome and cursor of each line."""
    return [(line.run, line.outcome, line.cursor) for line in store.attempts(id)]


def whole(store: Store, *ids: str) -> tuple[Any, ...]:
    """The whole visible state of operations, for `sent twice has the same end state`."""
    told = [(store.attempts(id), store.amendments(id), store.signals(id)) for id in ids]
    return snapshot(store), store.operations(ids), told


def found_by(store: Store, *terms: str, **fields: Any) -> list[str]:
    return [job.id for job in everything(store, Filter(terms=terms, **fields))]


class OperationStartConformance(Conformance):
    """`add` of an operation, and what a worker gets."""

    def test_an_operation_begins_at_its_cursor_with_its_globals(self, store: Store) -> None:
        """A job with `operation` begins at its cursor, with its globals and its plan."""
        id = start(store, change("n", 7), change("tags", ["a"]), args='{"n": 7}')
        found = record(store, id)
        assert (found.state, found.cursor, found.args, found.run) == (State.AVAILABLE, FIRST, '{"n": 7}', 0)
        assert globals_of(store, id) == {"n": 7, "tags": ["a"]}
        assert store.plan("d1") == '{"p":1}'

    def test_a_worker_gets_what_belongs_to_an_operation(self, store: Store) -> None:
        """An operation comes with its globals, its plan's digest, and the signal that it waited for."""
        run = started(store, change("n", 7))
        assert run.cursor == FIRST
        assert run.operation is not None
        assert (run.operation.digest, json.loads(run.operation.globals)) == ("d1", {"n": 7})
        assert (run.operation.wait, run.operation.received, run.operation.ending) == (None, None, None)

    def test_a_plain_job_comes_without(self, store: Store) -> None:
        """Of a job that is no operation nothing of the kind is kept."""
        operation_id, plain = start(store), add(store)
        runs = {run.id: run for run in fetch(store, 2)}
        assert runs[plain].operation is None
        assert runs[operation_id].operation is not None
        assert store.operations([plain]) == []
        assert [found.id for found in store.operations([plain, operation_id])] == [operation_id]

    def test_operations_and_jobs_keep_their_order(self, store: Store) -> None:
        """Operations among other jobs of one call arrive in the order of the call."""
        jobs = [a_job(), an_operation(), an_operation(), a_job(), an_operation()]
        assert store.add(jobs) == [job.id for job in jobs]
        assert [job.id for job in everything(store)] == [job.id for job in jobs]

    def test_a_plan_is_stored_once_for_all(self, store: Store) -> None:
        """The plan is stored once for all operations that walk it; the first text stays."""
        start(store)
        start(store, plan='{"p":1,"other":2}')
        start(store, digest="d2", plan="{}")
        assert (store.plan("d1"), store.plan("d2"), store.plan("d3")) == ('{"p":1}', "{}", None)

    def test_a_fork_says_whose_globals_it_has(self, store: Store) -> None:
        """What an operation was forked from is kept with it."""
        id = start(store, forked_from="other", forked_after=3)
        assert (operation(store, id).forked_from, operation(store, id).forked_after) == ("other", 3)

    def test_a_start_sent_twice_is_one(self, store: Store) -> None:
        """A job whose id is already stored is left as it is, whatever became of its globals."""
        new = an_operation("one", change("n", 7, "n=7"), key="k")
        assert store.add([new]) == ["one"]
        kept(store, fetch_one(store), "main/b/2", change("n", 8, "n=8"))
        before = whole(store, "one")
        assert store.add([new]) == ["one"]
        assert whole(store, "one") == before
        assert found_by(store, "n=7") == []

    def test_an_operation_behind_a_fence_needs_its_run(self, store: Store) -> None:
        """With `fence`, nothing is stored unless that run still owns its job."""
        run = running(store)
        with pytest.raises(LeaseLost):
            store.add([an_operation("late")], fence=Fence(run.id, run.run + 1))
        assert (store.get(["late"]), store.operations(["late"]), store.plan("d1")) == ([], [], None)

    def test_an_operation_may_wait_for_its_time_and_expire(self, store: Store, clock: FrozenClock) -> None:
        """An operation that is not due is not fetched before its time, and expires as any job does."""
        later, late = start(store, delay=10.0), start(store, expires=5.0)
        clock.advance(10.0)
        assert [run.id for run in fetch(store, 2)] == [later]
        assert state(store, late) is State.CANCELLED


class OperationKeyConformance(Conformance):
    """Unique keys of operations."""

    def complete(self, store: Store, id: str) -> None:
        run = fetch_one(store)
        assert run.id == id
        assert settle(store, stepped(run, FIRST, State.COMPLETED)) is Answer.OK

    def test_a_second_start_finds_the_first(self, store: Store) -> None:
        """An operation whose unique key is held by another is not stored: the answer is that one's id."""
        first = start(store, key="k")
        assert store.add([an_operation("second", key="k")]) == [first]
        assert store.get(["second"]) == []

    def test_the_key_is_held_after_the_end(self, store: Store) -> None:
        """… even where that one has ended."""
        first = start(store, key="k")
        self.complete(store, first)
        assert store.add([an_operation("second", key="k")]) == [first]
        assert operation(store, first).key == "k"
        assert [job.id for job in everything(store)] == [first]

    def test_again_takes_the_key_over(self, store: Store) -> None:
        """With `again`, the key is taken over from one that has ended."""
        first = start(store, key="k")
        self.complete(store, first)
        assert store.add([an_operation("second", key="k", again=True)]) == ["second"]
        assert (operation(store, first).key, operation(store, "second").key) == (None, "k")
        assert store.add([an_operation("third", key="k")]) == ["second"]

    def test_again_sent_twice_takes_it_over_once(self, store: Store) -> None:
        """A start with `again` that is sent twice is one."""
        first = start(store, key="k")
        self.complete(store, first)
        new = an_operation("second", key="k", again=True)
        store.add([new])
        self.complete(store, "second")
        before = whole(store, first, "second")
        assert store.add([new]) == ["second"]
        assert whole(store, first, "second") == before

    def test_again_leaves_one_that_has_not_ended(self, store: Store) -> None:
        """Only from one that has ended: else that one is the answer."""
        first = start(store, key="k")
        assert store.add([an_operation("second", key="k", again=True)]) == [first]

    def test_two_of_one_call_are_one(self, store: Store) -> None:
        """The second of one call finds the first of it."""
        new = [an_operation("one", key="k"), an_operation("two", key="k"), an_operation("three")]
        assert store.add(new) == ["one", "one", "three"]
        assert [found.id for found in store.operations(["one", "two", "three"])] == ["one", "three"]

    def test_an_unfinished_job_holds_its_key_against_operations(self, store: Store) -> None:
        """A unique key that an unfinished job carries is its own, whatever it is."""
        plain = add(store, key="k")
        assert store.add([an_operation("one", key="k", again=True)]) == [plain]
        assert (store.operations(["one"]), store.plan("d1")) == ([], None)

    def test_a_job_may_have_the_key_of_an_ended_operation(self, store: Store) -> None:
        """Only operations find an ended one by its key."""
        first = start(store, key="k")
        self.complete(store, first)
        plain = add(store, key="k")
        assert (plain != first, operation(store, first).key) == (True, "k")

    def test_the_operation_that_holds_a_key_is_the_answer_whoever_else_carries_it(self, store: Store) -> None:
        """… also where another job carries the key by now: a start that is sent again finds what it found before."""
        first = start(store, key="k")
        self.complete(store, first)
        plain = add(store, key="k")
        assert store.add([an_operation("second", key="k")]) == [first]
        assert store.add([an_operation("third", key="k", again=True)]) == [plain]

    def test_starts_that_race_are_one(self, store: Store) -> None:
        """Of starts with one key at one moment, one is stored."""
        answers = together(*[lambda: store.add([an_operation(key="k")]) for _ in range(4)])
        assert len({id for (id,) in answers}) == 1
        assert len(everything(store)) == 1


class AdvanceConformance(Conformance):
    """`settle` with an advance."""

    def test_an_advance_moves_the_cursor_and_keeps_a_line(self, store: Store, clock: FrozenClock) -> None:
        """An operation's advance moves its cursor, changes its globals, and keeps a line of the step with those changes."""
        run = started(store, change("n", 1))
        clock.advance(5.0)
        changes = change("n", 2, "n=2"), change("m", [1])
        assert settle(store, stepped(run, "main/b/2", State.AVAILABLE, *changes)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.cursor, found.run_at) == (State.AVAILABLE, "main/b/2", clock.now())
        assert globals_of(store, run.id) == {"n": 2, "m": [1]}
        (line,) = store.attempts(run.id)
        assert (line.run, line.attempt, line.outcome, line.cursor) == (1, 1, "completed", FIRST)
        assert (line.changes, line.worker) == (changes, "w.1")
        assert line.started_at is not None
        assert line.finished_at - line.started_at == pytest.approx(5.0)

    def test_an_undone_step_leaves_its_line(self, store: Store) -> None:
        """The end of an undo is kept as a line, as a step's is: what is undone next is read from these."""
        run = kept(store, started(store), "undo/2")
        undone = stepped(run, "undo/1", State.AVAILABLE, history="undone", at="undo/main/a/1")
        assert settle(store, undone) is Answer.OK
        assert lines(store, run.id) == [(1, "completed", FIRST), (2, "undone", "undo/main/a/1")]

    def test_attempts_begin_anew(self, store: Store) -> None:
        """Attempts and crashes begin anew; the settlement's own attempt is kept in the line."""
        id = start(store)
        settle(store, retried(fetch_one(store)))
        fetch_one(store)
        store.reap("w.1", crashed=[id], reason="killed")
        run = fetch_one(store, worker="w.2")
        assert (run.attempt, run.crashes) == (1, 1)
        assert settle(store, stepped(run, "main/b/2", State.AVAILABLE)) is Answer.OK
        found = record(store, id)
        assert (found.attempt, found.crashes, found.error, found.reason) == (0, 0, None, None)
        assert lines(store, id) == [(1, "retry", FIRST), (2, "crashed", FIRST), (3, "completed", FIRST)]
        assert store.attempts(id)[-1].attempt == 2

    def test_its_lines_are_read_from_the_newest_to_the_oldest(self, store: Store) -> None:
        """With `newest` from the newest to the oldest, whatever the lines tell of."""
        run = started(store)
        settle(store, retried(run))
        run = kept(store, fetch_one(store))
        settle(store, retried(run))
        kept(store, fetch_one(store), "main/c/3")
        told = lines(store, run.id)
        assert [line[:2] for line in told] == [(1, "retry"), (2, "completed"), (3, "retry"), (4, "completed")]
        back = [store.attempts(run.id, before=before, limit=2, newest=True) for before in (None, 3)]
        assert [(line.run, line.outcome, line.cursor) for page in back for line in page] == told[::-1]

    def test_a_failed_attempt_leaves_the_cursor(self, store: Store) -> None:
        """Without an advance the operation stays where it is, and its line says where that was."""
        run = started(store, change("n", 1))
        settle(store, ended(run, State.FAILED, attempt=1, error=BAD_BODY, history="failed"))
        assert (state(store, run.id), record(store, run.id).cursor) == (State.FAILED, FIRST)
        assert lines(store, run.id) == [(1, "failed", FIRST)]
        assert globals_of(store, run.id) == {"n": 1}

    def test_a_delayed_step_is_due_after_its_delay(self, store: Store, clock: FrozenClock) -> None:
        """`delay` counts from the store's own now; an advance without one is due at once."""
        run = started(store)
        settle(store, stepped(run, "main/b/2", State.AVAILABLE, delay=600.0))
        assert (fetch(store) == [], round(store.next_due() or 0.0, 3)) == (True, 600.0)
        clock.advance(600.0)
        assert fetch_one(store).cursor == "main/b/2"

    def test_an_advance_may_lead_to_another_queue(self, store: Store) -> None:
        """`queue` and `priority` are where it goes on; the counters follow."""
        run = started(store, queue="here")
        settle(store, stepped(run, "main/b/2", State.AVAILABLE, queue="there", priority=-3))
        found = record(store, run.id)
        assert (found.queue, found.priority) == ("there", -3)
        assert {place: n for place, n in store.counts().items() if n} == {("there", "available"): 1}
        assert fetch_one(store, queue="there").priority == -3

    @pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED, State.CANCELLED])
    def test_the_last_step_ends_the_operation(self, store: Store, clock: FrozenClock, end: State) -> None:
        """An advance to an end is that end, and is counted as one."""
        run = started(store)
        error = ErrorInfo("Boom", "bad") if end is State.FAILED else None
        assert settle(store, stepped(run, FIRST, end, error=error, reason="so", history=end.value)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.finished_at, found.error, found.reason) == (end, clock.now(), error, "so")
        assert lines(store, run.id) == [(1, end.value, FIRST)]

    @pytest.mark.parametrize("next", [State.AVAILABLE, State.COMPLETED, State.RUNNING])
    def test_an_advance_sent_twice_is_one(self, store: Store, next: State) -> None:
        """The same settlement sent again answers `already` and changes nothing."""
        run = started(store, change("n", 1))
        settlement = stepped(run, "main/b/2", next, change("n", 2, "n=2"))
        assert settle(store, settlement) is Answer.OK
        before = whole(store, run.id)
        assert settle(store, settlement) is Answer.ALREADY
        assert whole(store, run.id) == before

    @pytest.mark.parametrize("next", [State.AVAILABLE, State.COMPLETED, State.RUNNING])
    def test_only_the_run_that_owns_it_moves_it(self, store: Store, next: State) -> None:
        """Only the run that owns the job changes it: a stale one leaves no line and no change."""
        run = started(store)
        store.reap("w.1")
        fetch_one(store, worker="w.2")
        before = whole(store, run.id)
        assert settle(store, stepped(run, "main/b/2", next, change("n", 2, "n=2"))) is Answer.STALE
        assert whole(store, run.id) == before

    def test_advances_and_completions_share_a_call(self, store: Store) -> None:
        """One transaction for all: each is answered by itself, in its place."""
        plain, stale = add(store), add(store)
        ids = [start(store) for _ in range(3)]
        runs = {run.id: run for run in fetch(store, 5)}
        late = stepped(runs[ids[2]])
        assert settle(store, late) is Answer.OK
        answers = store.settle(
            [
                stepped(runs[ids[0]]),
                ended(runs[plain], State.COMPLETED, attempt=1),
                replace(ended(runs[stale], State.COMPLETED, attempt=1), run=7),
                late,
                stepped(runs[ids[1]], "main/b/2", State.COMPLETED),
            ]
        )
        assert answers == [Answer.OK, Answer.OK, Answer.STALE, Answer.ALREADY, Answer.OK]
        assert [state(store, id) for id in (plain, stale, *ids)] == [
            State.COMPLETED, State.RUNNING, State.RUNNING, State.COMPLETED, State.RUNNING,
        ]  # fmt: skip

    def test_a_step_without_a_line_leaves_none(self, store: Store) -> None:
        """`history` names the line that is kept, if one is."""
        run = started(store)
        assert settle(store, stepped(run, "undo/1", history=None)) is Answer.OK
        assert (store.attempts(run.id), record(store, run.id).cursor) == ([], "undo/1")

    def test_the_history_is_read_in_pages(self, store: Store) -> None:
        """`after` and `limit` page through the lines by run."""
        run = started(store)
        for visit in range(2, 8):
            run = kept(store, run, f"main/a/{visit}")
        pages: list[list[int]] = [[]]
        while page := store.attempts(run.id, after=pages[-1][-1] if pages[-1] else -1, limit=2):
            pages.append([line.run for line in page])
        assert pages[1:] == [[1, 2], [3, 4], [5, 6]]

    def test_each_visit_keeps_its_first_and_last_lines(self, store: Store) -> None:
        """Of each visit of a step the first 10 and the last 100 lines are kept, and every step that was completed."""
        run = kept(store, started(store))
        settle(store, retried(run))
        run = kept(store, fetch_one(store), "main/c/3")
        for _ in range(FIRST_RUNS + LAST_RUNS + 5):
            settle(store, ended(run, State.AVAILABLE, reason="later", history="snoozed"))
            run = fetch_one(store)
        settle(store, stepped(run, FIRST, State.COMPLETED))
        told = lines(store, run.id)
        assert [line for line in told if line[1] != "snoozed"] == [
            (1, "completed", FIRST), (2, "retry", "main/b/2"), (3, "completed", "main/b/2"),
            (run.run, "completed", "main/c/3"),
        ]  # fmt: skip
        snoozed = [line[0] for line in told if line[1] == "snoozed"]
        assert snoozed == [*range(4, 4 + FIRST_RUNS), *range(run.run - LAST_RUNS, run.run)]

    def test_a_reaped_operation_stays_where_it_is(self, store: Store) -> None:
        """Whoever hands an operation back, the line says where it was."""
        run = kept(store, started(store))
        assert store.bury("w") == 1
        assert lines(store, run.id) == [(1, "completed", FIRST), (2, "released", "main/b/2")]
        assert (state(store, run.id), record(store, run.id).cursor) == (State.AVAILABLE, "main/b/2")


class KeepConformance(Conformance):
    """Operations that go on in their worker."""

    def test_it_goes_on_as_the_next_run(self, store: Store, clock: FrozenClock) -> None:
        """One that advances as running goes on as the next run of the same worker: `ok`."""
        run = started(store)
        clock.advance(3.0)
        assert settle(store, stepped(run)) is Answer.OK
        found = record(store, run.id)
        assert (found.state, found.run, found.worker, found.cursor) == (State.RUNNING, 2, "w.1", "main/b/2")
        assert (found.started_at, found.attempt) == (clock.now(), 0)
        assert {place: n for place, n in store.counts().items() if n} == {("default", "running"): 1}

    def test_each_run_has_its_line(self, store: Store) -> None:
        """Each step of a kept operation is a run with a line of its own."""
        run = started(store)
        for visit in range(2, 5):
            run = kept(store, run, f"main/a/{visit}", change("n", visit))
        assert lines(store, run.id) == [(n, "completed", f"main/a/{n}") for n in range(1, 4)]
        assert globals_of(store, run.id) == {"n": 4}

    def test_the_run_before_owns_nothing_any_more(self, store: Store) -> None:
        """The fence of a kept operation is its next run's."""
        run = started(store)
        kept(store, run)
        with pytest.raises(LeaseLost):
            store.add([a_job()], fence=run.fence)
        assert settle(store, stepped(run, "main/c/3", State.COMPLETED)) is Answer.ALREADY
        assert state(store, run.id) is State.RUNNING

    def test_an_old_keep_is_stale_once_the_next_is_told(self, store: Store) -> None:
        """A settlement of a run before the last one changes nothing."""
        run = started(store)
        kept(store, kept(store, run), "main/c/3")
        before = whole(store, run.id)
        assert settle(store, stepped(run)) is Answer.STALE
        assert whole(store, run.id) == before

    def test_it_may_change_its_queue_without_its_worker(self, store: Store) -> None:
        """The counters follow an operation that goes on under another queue."""
        run = started(store)
        assert settle(store, stepped(run, queue="there", priority=4)) is Answer.OK
        assert (record(store, run.id).queue, record(store, run.id).priority) == ("there", 4)
        assert {place: n for place, n in store.counts().items() if n} == {("there", "running"): 1}

    def test_a_kept_operation_can_be_reaped(self, store: Store) -> None:
        """It belongs to its worker: when that is gone, it is available, and none of its runs comes back."""
        run = kept(store, started(store))
        assert store.reap("w.1", crashed=[run.id], reason="killed") == [run.id]
        again = fetch_one(store, worker="w.2")
        assert (again.run, again.cursor, again.crashes) == (3, "main/b/2", 1)
        assert settle(store, stepped(run, "main/c/3")) is Answer.STALE

    def test_where_it_was_asked_to_stop_it_is_cancelled(self, store: Store) -> None:
        """Where it was asked to stop it is cancelled instead: `let go`; what it completed is recorded."""
        run = started(store)
        store.cancel(Filter(ids=(run.id,)), reason="seen enough", by="ann")
        assert settle(store, stepped(run, "main/b/2", State.RUNNING, change("n", 1))) is Answer.LET_GO
        found = record(store, run.id)
        assert (found.state, found.reason, found.cursor) == (State.CANCELLED, "seen enough", "main/b/2")
        assert lines(store, run.id) == [(1, "completed", FIRST)]
        assert globals_of(store, run.id) == {"n": 1}

    @pytest.mark.parametrize("next", [State.AVAILABLE, State.RUNNING])
    def test_one_that_was_stopped_and_is_retried_goes_on(self, store: Store, next: State) -> None:
        """Brought back, it goes on behind what it completed."""
        run = started(store)
        store.cancel(Filter(ids=(run.id,)), reason="seen enough")
        settle(store, stepped(run, "main/b/2", next))
        assert state(store, run.id) is State.CANCELLED
        assert store.retry(Filter(ids=(run.id,))) == 1
        assert fetch_one(store).cursor == "main/b/2"

    def test_where_its_queue_is_paused_it_is_available(self, store: Store) -> None:
        """Where its queue is paused it is made available: `let go`."""
        run = started(store)
        store.pause("default")
        assert settle(store, stepped(run)) is Answer.LET_GO
        assert (state(store, run.id), record(store, run.id).cursor) == (State.AVAILABLE, "main/b/2")
        assert fetch(store) == []
        store.pause("default", False)
        assert fetch_one(store).cursor == "main/b/2"

    def test_where_its_globals_were_edited_meanwhile_it_is_available(self, store: Store) -> None:
        """Its worker has read them before: the next run is fetched, and has what was set. It goes on again behind that."""
        run = started(store, change("n", 1))
        edit = Amendment(id="a1", what="edited", by="ann", changes=(change("n", 7),))
        assert store.amend(run.id, FIRST, edit) is Answer.OK
        assert settle(store, stepped(run)) is Answer.LET_GO
        run = fetch_one(store)
        assert (run.cursor, run.operation and run.operation.globals) == ("main/b/2", '{"n":7}')
        assert settle(store, stepped(run, "main/c/3")) is Answer.OK
        assert (state(store, run.id), record(store, run.id).run) == (State.RUNNING, run.run + 1)

    def test_a_pause_counts_where_it_goes_on(self, store: Store) -> None:
        """The queue that counts is the one of the next step."""
        run = started(store)
        store.pause("default")
        assert settle(store, stepped(run, queue="there")) is Answer.OK
        store.pause("there")
        assert settle(store, stepped(next_run(store, run), "main/c/3")) is Answer.LET_GO

    def test_who_was_let_go_is_told_so_again(self, store: Store) -> None:
        """Sent again, `let go` stays `let go`: also once another worker has the operation."""
        run = started(store)
        store.pause("default")
        assert settle(store, stepped(run)) is Answer.LET_GO
        assert settle(store, stepped(run)) is Answer.LET_GO
        store.pause("default", False)
        theirs = fetch_one(store, worker="w.2")
        before = whole(store, run.id)
        assert settle(store, stepped(run)) is Answer.LET_GO
        assert whole(store, run.id) == before
        assert settle(store, stepped(theirs, FIRST, State.COMPLETED)) is Answer.OK

    def test_progress_is_that_of_a_step(self, store: Store) -> None:
        """The next step begins without the progress of the one before."""
        run = started(store)
        store.report("w.1", {run.id: Progress(1, 2)})
        kept(store, run)
        assert record(store, run.id).progress is None

    def test_a_kept_operation_is_reported_when_it_is_to_stop(self, store: Store) -> None:
        """A kept operation that is asked to stop is reported to its worker."""
        run = kept(store, started(store))
        store.cancel(Filter(ids=(run.id,)), reason="seen enough")
        assert store.report("w.1", {}) == [run.id]

    def test_an_exchange_settles_and_fetches(self, store: Store) -> None:
        """`settle`, then `fetch`, in one transaction: an operation that comes back may be fetched at once."""
        run = started(store)
        answers, runs = store.exchange([stepped(run, "main/b/2", State.AVAILABLE, change("n", 1))], a_claim())
        assert answers == [Answer.OK]
        assert [(again.run, again.cursor) for again in runs] == [(2, "main/b/2")]
        assert runs[0].operation is not None
        assert json.loads(runs[0].operation.globals) == {"n": 1}

    def test_a_claim_sent_again_brings_what_belongs_to_an_operation(self, store: Store) -> None:
        """A claim that was answered before gets the same jobs again, with all that belongs to them."""
        start(store, change("n", 1))
        claim = Claim("w.1", 10**6, 1)
        assert store.fetch(claim) == store.fetch(claim)


class GlobalsConformance(Conformance):
    """Globals, and how operations are found by them."""

    def test_changes_are_made_key_by_key(self, store: Store) -> None:
        """Globals change key by key: what is not named stays; None takes a key away."""
        run = started(store, change("a", 1), change("b", None), change("c", "x"))
        kept(store, run, "main/b/2", change("a", {"deep": [1]}), gone("c"), gone("never"))
        assert globals_of(store, run.id) == {"a": {"deep": [1]}, "b": None}

    def test_changes_are_made_once(self, store: Store) -> None:
        """What a step changed is not changed by it again: an edit made since holds, whatever steps end behind it."""
        run = kept(store, started(store), "main/b/2", change("a", 1), change("b", 1))
        edit = Amendment(id="edit", what="edited", by="somebody", changes=(change("a", "edited"), gone("b")))
        assert store.amend(run.id, "main/b/2", edit) is Answer.OK
        assert settle(store, stepped(run, "main/c/3", State.AVAILABLE, change("c", 1))) is Answer.OK
        assert globals_of(store, run.id) == {"a": "edited", "c": 1}

    @pytest.mark.parametrize("key", ["", 'a"b', "a.b", "$", "ü\n", "a[0]", "\\"])
    def test_any_text_is_a_key(self, store: Store, key: str) -> None:
        """A key is text, and nothing in it has a meaning to the store."""
        run = started(store, change(key, 1), change("other", 2))
        run = kept(store, run, "main/b/2", change(key, "new"))
        assert globals_of(store, run.id) == {key: "new", "other": 2}
        kept(store, run, "main/c/3", gone(key))
        assert globals_of(store, run.id) == {"other": 2}

    def test_the_last_change_of_a_key_counts(self, store: Store) -> None:
        """Of two changes of one key the later holds, with its terms."""
        run = started(store, change("n", 1, "n=1"), change("n", 2, "n=2"))
        assert (globals_of(store, run.id), found_by(store, "n=1"), found_by(store, "n=2")) == ({"n": 2}, [], [run.id])
        kept(store, run, "main/b/2", change("n", 3, "n=3"), gone("n"))
        assert (globals_of(store, run.id), found_by(store, "n=3")) == ({}, [])

    def test_operations_are_found_by_terms(self, store: Store) -> None:
        """`terms` finds only operations whose globals have all of these."""
        one = start(store, change("n", 1, "n=1"), change("m", 1, "m=1"))
        two = start(store, change("n", 1, "n=1"), change("m", 2, "m=2"))
        add(store)
        assert (found_by(store, "n=1"), found_by(store, "n=1", "m=2"), found_by(store, "n=2")) == (
            [one, two],
            [two],
            [],
        )
        assert found_by(store) == [one, two]
        assert [job.id for job in store.find(Filter(terms=("n=1",)), newest=True)] == [two, one]
        assert (store.count(Filter(terms=("n=1",))), store.count(Filter(terms=("m=1", "n=1")))) == (2, 1)

    def test_terms_change_with_the_globals(self, store: Store) -> None:
        """A global's terms are those of its present value."""
        run = started(store, change("n", 1, "n=1", "n"), change("m", 1, "m=1"))
        run = kept(store, run, "main/b/2", change("n", 2, "n=2", "n"))
        assert (found_by(store, "n=1"), found_by(store, "n=2", "n", "m=1")) == ([], [run.id])
        kept(store, run, "main/c/3", gone("n"))
        assert (found_by(store, "n"), found_by(store, "m=1")) == ([], [run.id])

    def test_a_term_of_two_globals_finds_one_operation_once(self, store: Store) -> None:
        """An operation that has a term twice is found once, and as long as one of the two has it."""
        run = started(store, change("a", 1, "same"), change("b", 1, "same"))
        assert (found_by(store, "same"), store.count(Filter(terms=("same",)))) == ([run.id], 1)
        kept(store, run, "main/b/2", gone("a"))
        assert found_by(store, "same") == [run.id]

    def test_terms_and_other_conditions_hold_together(self, store: Store) -> None:
        """Every field of a filter that is set must match."""
        one = start(store, change("n", 1, "n=1"), queue="here", key="k")
        start(store, change("n", 1, "n=1"), queue="there")
        assert found_by(store, "n=1", queue="here") == [one]
        assert found_by(store, "n=1", key="k", state=State.AVAILABLE, ids=(one, "none"), task="demo") == [one]
        assert found_by(store, "n=1", queue="here", state=State.FAILED) == []

    @pytest.mark.parametrize("terms", [None, (), ("n=1",)])
    def test_operations_are_found_page_by_page(self, store: Store, terms: tuple[str, ...] | None) -> None:
        """A page begins behind the job `after`, in the order of arrival or the reverse."""
        ids = []
        for _ in range(7):
            add(store)
            ids.append(start(store, change("n", 1, "n=1")))
        which = Filter(terms=terms, operations=True)
        assert [job.id for job in store.find(which, after=ids[2], limit=3)] == ids[3:6]
        assert [job.id for job in store.find(which, after=ids[2], limit=3, newest=True)] == ids[:2][::-1]
        assert [job.id for job in store.find(which, limit=2, newest=True)] == ids[:-3:-1]

    @pytest.mark.parametrize("fields", [{}, {"state": State.RUNNING}, {"state": State.AVAILABLE}, {"key": "k"}])
    def test_operations_are_told_from_other_jobs(self, store: Store, fields: dict[str, Any]) -> None:
        """`operations` finds only operations; False, only others."""
        running_ids = {add(store), start(store)}
        fetch(store, 2)
        waiting_ids = {add(store), start(store), start(store, key="k")}
        kinds = {job.id for job in everything(store, Filter(operations=True))}
        for wanted in (True, False):
            found = everything(store, Filter(operations=wanted, **fields))
            expected = [j.id for j in everything(store, Filter(**fields)) if (j.id in kinds) is wanted]
            assert [job.id for job in found] == expected
            assert store.count(Filter(operations=wanted, **fields)) == len(expected)
        assert kinds < running_ids | waiting_ids

    def test_verbs_take_filters_with_terms(self, store: Store) -> None:
        """Whatever takes a filter takes one with terms."""
        one, two = start(store, change("n", 1, "n=1")), start(store, change("n", 2, "n=2"))
        assert store.cancel(Filter(terms=("n=1",)), reason="x") == 1
        assert [state(store, id) for id in (one, two)] == [State.CANCELLED, State.AVAILABLE]
        assert store.retry(Filter(terms=("n=1",))) == 1
        assert store.cancel(Filter(operations=True), reason="x") == 2
        assert store.delete(Filter(terms=("n=2",))) == 1
        assert [job.id for job in everything(store)] == [one]

    def test_limits_hold_for_filters_with_terms(self, store: Store) -> None:
        """Up to `limit`, the earliest first."""
        ids = [start(store, change("n", 1, "n=1")) for _ in range(3)]
        assert store.cancel(Filter(terms=("n=1",)), reason="x", limit=2) == 2
        assert [state(store, id) for id in ids] == [State.CANCELLED, State.CANCELLED, State.AVAILABLE]


class OperationResultConformance(Conformance):
    """What an operation comes to that is a piece."""

    def test_its_result_is_its_globals(self, store: Store) -> None:
        """As they are then: with what somebody set while the last step ran, and the last step's own changes."""
        store.add([an_operation("p1", change("n", 1), piece="0", batch="b1", ordinal=0)], batch=NewBatch(id="b1"))
        run = fetch_one(store)
        edit = Amendment(id="a", what="edited", by="ann", changes=(change("n", 2), change("by hand", True)))
        assert store.amend("p1", FIRST, edit) is Answer.OK
        last = replace(stepped(run, FIRST, State.COMPLETED, change("last", "é")), result='{"n":1}')
        assert settle(store, last) is Answer.OK
        (piece,) = store.pieces("b1")
        for result in (piece.result, record(store, "p1").result):
            assert json.loads(result or "") == {"n": 2, "by hand": True, "last": "é"}
        assert settle(store, last) is Answer.ALREADY

    def test_one_that_is_no_piece_has_none(self, store: Store) -> None:
        """Its globals are kept beside it, once."""
        id = start(store, change("n", 1))
        settle(store, stepped(fetch_one(store), FIRST, State.COMPLETED))
        assert (record(store, id).result, globals_of(store, id)) == (None, {"n": 1})


class OperationKeepConformance(Conformance):
    """How long what belongs to an operation is kept."""

    def finish(self, store: Store, ids: Sequence[str]) -> None:
        for run in fetch(store, len(ids)):
            settle(store, stepped(run, FIRST, State.COMPLETED, change("n", 1, "n=1")))

    def prune(self, store: Store, clock: FrozenClock) -> int:
        clock.advance(10.0)
        return store.prune(before=clock.now())

    def test_what_belongs_to_it_is_pruned_with_it(self, store: Store, clock: FrozenClock) -> None:
        """`prune` takes along history, operations, signals and amendments; and terms, keys and plans."""
        id, plain = start(store, key="k"), add(store)
        assert store.signal(id, NewSignal(id="s", name="go"))
        assert store.amend(id, FIRST, Amendment(id="a", what="edited", by="ann")) is Answer.OK
        for run in fetch(store, 2):
            settle(store, stepped(run, FIRST, State.COMPLETED) if run.id == id else ended(run, State.COMPLETED))
        assert self.prune(store, clock) == 2
        assert store.get([id, plain]) == []
        assert (store.operations([id]), store.attempts(id), store.signals(id), store.amendments(id)) == ([], [], [], [])
        assert (found_by(store, "n=1"), store.plan("d1")) == ([], None)
        assert store.add([an_operation("new", key="k")]) == ["new"]

    def test_a_plan_stays_as_long_as_somebody_walks_it(self, store: Store, clock: FrozenClock) -> None:
        """A plan goes with the last operation that names it."""
        one, other = start(store), start(store, digest="d2")
        self.finish(store, [one, other])
        two = start(store)
        assert self.prune(store, clock) == 2
        assert (store.plan("d1"), store.plan("d2")) == ('{"p":1}', None)
        self.finish(store, [two])
        assert self.prune(store, clock) == 1
        assert store.plan("d1") is None

    def test_what_belongs_to_it_is_deleted_with_it(self, store: Store) -> None:
        """`delete` takes along as much."""
        id = start(store, change("n", 1, "n=1"))
        run = kept(store, fetch_one(store))
        settle(store, ended(run, State.FAILED, attempt=1, error=BAD_BODY, history="failed"))
        assert store.delete(Filter(ids=(id,))) == 1
        assert (store.operations([id]), store.attempts(id), found_by(store, "n=1")) == ([], [], [])
        assert store.plan("d1") is None

    def test_the_next_job_inherits_nothing(self, store: Store) -> None:
        """A job that comes after one that was deleted has nothing of it."""
        id = start(store, change("n", 1, "n=1"))
        store.cancel(Filter(ids=(id,)), reason="x")
        store.delete(Filter(ids=(id,)))
        plain = add(store)
        assert (store.operations([plain]), found_by(store, "n=1"), fetch_one(store).operation) == ([], [], None)
