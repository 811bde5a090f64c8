"""Every store does what the model does, whatever is done to both: random histories, compared after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)
from twins import QUEUES, SESSIONS, WORKERS, Twins, examples_on, walk_randomly

from piecework.job import (
    BatchRecord,
    BatchState,
    Claim,
    ErrorInfo,
    Fetched,
    Filter,
    NewBatch,
    NewJob,
    OnFailure,
    Progress,
    Record,
    State,
)
from piecework.outcome import Settlement
from piecework.store import Store
from piecework.testing import FrozenClock

POLICIES = tuple(OnFailure)
UNFINISHED = (State.WAITING, State.AVAILABLE, State.RUNNING, State.PARKED)
RETRIABLE = (State.FAILED, State.CANCELLED, State.PARKED)

GOOD = ("completed",) * 12 + ("failed", "retried", "released")
BAD = ("completed", "failed", "failed", "cancelled")
MIXED = (*("completed",) * 4, "failed", "failed", "retried", "delayed", "released", "cancelled", "parked")

queues = st.sampled_from(QUEUES)
keys = st.sampled_from([None] * 6 + ["k", "l"])
expiries = st.sampled_from([None, None, 3.0, 50.0])
workers = st.sampled_from(WORKERS)
labels = st.sampled_from([{}, {}, {"identity": "7"}, {"identity": "8", "tags": ("x",)}, {"tags": ("x", "y")}])
FOUND_BY = (
    {"identity": "7"},
    {"identity": "8", "task": "plain"},
    {"tags": ("x",)},
    {"tags": ("y", "x")},
    {"identity": "8", "tags": ("x",)},
    {"tags": ("x",), "state": State.FAILED},
    {"identity": "7", "state": State.RUNNING},
)
policies = st.sampled_from(POLICIES)


class StoreMachine(Twins):
    """Jobs, splits and batches, and whatever can be done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.loose: list[str] = []  # batches without a splitter
        self.offered: Counter[tuple[str, int]] = Counter()  # (split, run) -> pieces offered
        self.completed: dict[str, Record] = {}
        self.was: dict[str, BatchRecord] = {}

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    @initialize(ends=st.sampled_from([GOOD, BAD, MIXED]))
    def begin(self, ends: tuple[str, ...]) -> None:
        self.ends = ends
        for session in SESSIONS:
            self.enlist(session)

    @rule(
        n=st.integers(1, 3),
        queue=queues,
        priority=st.integers(-1, 1),
        delay=st.sampled_from([None, 5.0]),
        key=keys,
        expires=expiries,
        known=labels,
    )
    def add_jobs(
        self,
        n: int,
        queue: str,
        priority: int,
        delay: float | None,
        key: str | None,
        expires: float | None,
        known: dict[str, Any],
    ) -> None:
        n = 1 if key is not None else n
        more = {"delay": delay, "expires": expires, **known}
        self.add([NewJob(self.name("j"), "plain", "[]", queue, priority, key=key, **more) for _ in range(n)])

    @rule(queue=queues, key=keys, expires=expiries)
    def add_split(self, queue: str, key: str | None, expires: float | None) -> None:
        self.add([NewJob(self.name("split"), "split", "[]", queue, key=key, expires=expires)])

    @rule(
        policy=policies,
        then_queue=st.sampled_from([None, "b"]),
        then_priority=st.sampled_from([None, -1]),
        key=keys,
        follows=st.booleans(),
        same_id=st.booleans(),
    )
    def open_batch(
        self,
        policy: OnFailure,
        then_queue: str | None,
        then_priority: int | None,
        key: str | None,
        follows: bool,
        same_id: bool,
    ) -> None:
        if not follows:
            id = self.name("batch")
            self.add([], batch=NewBatch(id, None, policy))
        else:
            then = NewJob(self.name("then"), "plain", "[]", "a", state=State.WAITING, key=key)
            id = then.id if same_id else self.name("batch")
            if key is not None and self.model.find(Filter(key=key)):
                return  # the batch would have nobody who waits for it
            self.add([then], batch=NewBatch(id, then.id, policy, then_queue, then_priority))
        self.loose.append(id)
        self.batches.append(id)

    @precondition(lambda self: self.loose)
    @rule(data=st.data(), queue=queues, n=st.integers(1, 3), seal=st.booleans())
    def add_loose_pieces(self, data: st.DataObject, queue: str, n: int, seal: bool) -> None:
        batch = data.draw(st.sampled_from(self.loose))
        first = self.offered[batch, 0]
        self.offered[batch, 0] += n
        self.add(
            [NewJob(self.name("p"), "plain", "[]", queue, batch=batch, root=batch, ordinal=first + k) for k in range(n)]
        )
        if seal:
            self.both("seal", batch)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    @rule(worker=workers, limit=st.integers(0, 4), queues=st.sampled_from([None, None, ("a",), ("b",)]))
    def fetch(self, worker: str, limit: int, queues: tuple[str, ...] | None) -> None:
        self.took(self.both("fetch", self.claim(worker, limit, queues)))

    @precondition(lambda self: self.claims)
    @rule(worker=workers)
    def fetch_again(self, worker: str) -> None:
        self.pass_time(worker)
        if (claim := self.asked_again(worker)) is not None:
            self.both("fetch", claim)

    def draw_run(self, data: st.DataObject, splitter: bool | None = None) -> Fetched | None:
        """Mostly a run that still owns its job; sometimes one that does not."""
        runs = self.runs if data.draw(st.integers(0, 9)) == 9 else self.live()
        if splitter is not None:
            runs = [run for run in runs if is_splitter(run) is splitter]
        return data.draw(st.sampled_from(runs)) if runs else None

    def offer(self, run: Fetched, n: int) -> None:
        first = self.offered[run.id, run.run]
        pieces = [
            NewJob(
                self.name("split" if splits(run, ordinal) else "p"),
                "split" if splits(run, ordinal) else "leaf",
                f"[{ordinal}]",
                QUEUES[ordinal % 2],
                batch=run.id,
                root=run.root or run.id,
                ordinal=ordinal,
                piece=f"key{ordinal}" if policy_of(run) is OnFailure.FINISH else None,
                expires=50.0 if ordinal % 3 == 2 else None,
            )
            for ordinal in range(first, first + n)
        ]
        answer = self.add(pieces, batch=NewBatch(run.id, run.id, policy_of(run)), fence=run.fence)
        if isinstance(answer, list):
            self.offered[run.id, run.run] += n
            self.know(run.id)

    @precondition(lambda self: any(is_splitter(run) for run in self.live()))
    @rule(data=st.data(), n=st.integers(0, 4), wait=st.sampled_from([True, True, False]))
    def split_up(self, data: st.DataObject, n: int, wait: bool) -> None:
        """A splitter offers pieces, and perhaps comes to its end."""
        run = self.draw_run(data, splitter=True)
        if run is None:
            return
        self.offer(run, n)
        if wait:
            self.know(run.id)
            self.both("settle", [settlement_of(run, "waiting", self.offered[run.id, run.run])])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), said=st.sampled_from(['{"n":1}', '{"n":2}']), wait=st.sampled_from([0.0, 1.0]))
    def set_status(self, data: st.DataObject, said: str, wait: float) -> None:
        """A run says how it stands; one that does not own its job is not heard."""
        run = self.draw_run(data)
        if run is not None:
            self.clock.advance(wait)
            self.both("set_status", run.fence, said)

    @rule(by=st.sampled_from(FOUND_BY), newest=st.booleans(), age=st.sampled_from([None, None, 3.0]))
    def look(self, by: dict[str, Any], newest: bool, age: float | None) -> None:
        """By identity, tags and times; and how it stands with the identities."""
        since = None if age is None else self.clock.now() - age
        for which in (Filter(**by, created_from=since), Filter(**by, finished_from=since)):
            theirs, ours = (
                [job.id for job in store.find(which, newest=newest, limit=1000)] for store in (self.store, self.model)
            )
            assert theirs == ours
            assert self.both("count", which) == len(ours)
        for identity in ("7", "8", "9"):
            self.both("standing", ["plain", "leaf"], identity)

    @rule(worker=workers, n=st.integers(1, 4))
    def begin_splits(self, worker: str, n: int) -> None:
        """A worker takes what is due, and splits what is to be split."""
        runs = self.both("fetch", self.claim(worker, 3, None))
        self.took(runs)
        for run in runs:
            if is_splitter(run):
                self.offer(run, n)
                self.know(run.id)
                self.both("settle", [settlement_of(run, "waiting", self.offered[run.id, run.run])])

    @precondition(lambda self: self.has(State.AVAILABLE))
    @rule(data=st.data(), worker=workers, n=st.integers(1, 5))
    def work(self, data: st.DataObject, worker: str, n: int) -> None:
        """A worker takes what is due, and each run comes to some end."""
        self.both("pause", QUEUES[n % 2], False)
        runs = self.both("fetch", self.claim(worker, n, None))
        self.took(runs)
        for call in self.calls([self.settlement(data, run) for run in runs]):
            self.both("settle", call)

    @precondition(lambda self: self.has(State.WAITING))
    @rule(data=st.data(), n=st.integers(1, 3))
    def work_off(self, data: st.DataObject, n: int) -> None:
        """A worker does whatever is due, over and over: trees come to their end."""
        for queue in QUEUES:
            self.both("pause", queue, False)
        for _ in range(n):
            runs = self.both("fetch", self.claim("t.1", 10, None))
            self.took(runs)
            for run in runs:
                if is_splitter(run):
                    self.offer(run, n)
                self.both("settle", [self.settlement(data, run)])

    def settlement(self, data: st.DataObject, run: Fetched) -> Settlement:
        if is_splitter(run):
            end = data.draw(st.sampled_from(["waiting", "waiting", "failed", "retried", "cancelled", "parked"]))
            if end == "waiting":
                self.know(run.id)
        else:
            end = data.draw(st.sampled_from(self.ends))
        return settlement_of(run, end, self.offered[run.id, run.run])

    def settlements(self, data: st.DataObject, n: int) -> list[Settlement]:
        """Of different jobs, one perhaps twice; what a call says about two runs of one job is nobody's promise."""
        found: dict[str, Settlement] = {}
        for _ in range(n):
            run = self.draw_run(data)
            if run is not None:
                found.setdefault(run.id, self.settlement(data, run))
        return [*found.values(), *list(found.values())[: data.draw(st.integers(0, 1))]]

    def calls(self, settlements: list[Settlement]) -> list[list[Settlement]]:
        """Settlements that may go together, because it is no matter which of a call is taken first.

        Not a splitter with its own pieces, nor ends in two batches of one tree, one of which may end the other.
        """
        calls: list[list[Settlement]] = []
        roots = {run.id: run.root or run.id for run in self.runs}
        for s in settlements:
            for call in calls:
                alike = all(
                    other.state.finished and (roots[other.id] != roots[s.id] or other.batch == s.batch)
                    for other in call
                )
                if alike and s.state.finished:
                    call.append(s)
                    break
            else:
                calls.append([s])
        return calls

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), n=st.integers(1, 3), twice=st.booleans())
    def settle(self, data: st.DataObject, n: int, twice: bool) -> None:
        for call in self.calls(self.settlements(data, n)):
            self.both("settle", call)
            if twice:
                self.both("settle", call)

    @rule(data=st.data(), n=st.integers(1, 3), worker=workers, limit=st.integers(0, 3))
    def exchange(self, data: st.DataObject, n: int, worker: str, limit: int) -> None:
        for call in self.calls(self.settlements(data, n)):
            answer = self.both("exchange", call, self.claim(worker, limit, None))
            if isinstance(answer, tuple):
                self.took(answer[1])

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    @rule(
        what=st.sampled_from(["reap", "crash", "crash", "bury", "renew", "report"]),
        worker=workers,
        number=st.integers(0, 3),
    )
    def liveness(self, what: str, worker: str, number: int) -> None:
        session, name = worker.partition(".")[0], self.named(worker)
        mine = [job.id for job in self.model.find(Filter(worker=name, state=State.RUNNING))]
        if what == "renew":
            self.both("renew", session)
        elif what == "bury":
            self.both("bury", session, number if number < 3 else None)
            self.both("renew", session)
            self.both("fetch", Claim(name, 0, 0))
            self.enlist(session)
        elif what == "report":
            self.both("report", name, {id: Progress(number) for id in mine[:2]})
        else:
            crashed = mine[:1] if what == "crash" else []
            self.reap(worker, crashed, max(number, 1))

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def draw_filter(self, data: st.DataObject, states: tuple[State, ...]) -> Filter:
        jobs = [job for job in self.model.find(Filter(), limit=1000) if job.state in states]
        kind = data.draw(st.sampled_from(["one"] * 6 + ["split"] * 3 + ["queue", "task", "state", "batch", "all"]))
        if kind == "split" and self.loose and data.draw(st.integers(0, 3)) == 3:
            return Filter(ids=(data.draw(st.sampled_from(self.loose)),))
        if kind == "split":
            jobs = [job for job in jobs if job.id in self.batches]
        if kind in ("one", "split"):
            return Filter(ids=(data.draw(st.sampled_from(jobs)).id,) if jobs else ())
        if kind == "queue":
            return Filter(queue=data.draw(queues))
        if kind == "task":
            return Filter(task=data.draw(st.sampled_from(["plain", "leaf", "split"])))
        if kind == "state":
            return Filter(state=data.draw(st.sampled_from(states)))
        if kind == "batch" and self.batches:
            return Filter(batch=data.draw(st.sampled_from(self.batches)))
        return Filter()

    @precondition(lambda self: self.has(State.WAITING, State.RUNNING))
    @rule(data=st.data(), limit=st.sampled_from([1, 1000, 1000]))
    def cancel(self, data: st.DataObject, limit: int) -> None:
        by = data.draw(st.sampled_from([None, "ops"]))
        which = self.draw_filter(data, UNFINISHED)
        self.both("cancel", which, reason="cancelled", by=by, limit=self.bound(which, limit))

    @precondition(lambda self: self.has(*RETRIABLE))
    @rule(data=st.data(), limit=st.sampled_from([1, 1000, 1000]))
    def retry(self, data: st.DataObject, limit: int) -> None:
        which, resume = self.draw_filter(data, RETRIABLE), data.draw(st.booleans())
        self.both("retry", which, limit=self.bound(which, limit), resume=resume)

    @precondition(lambda self: self.has(*RETRIABLE, State.COMPLETED))
    @rule(data=st.data(), limit=st.sampled_from([1, 1000, 1000]))
    def delete(self, data: st.DataObject, limit: int) -> None:
        which = self.draw_filter(data, (*RETRIABLE, State.COMPLETED))
        if self.both("delete", which, limit=self.bound(which, limit)):
            self.sent.clear()  # as after `prune`

    @rule(
        what=st.sampled_from(["prune", "pause", "resume", "resume", "repair", "close", "advance", "advance"]),
        queue=queues,
        number=st.sampled_from([0.0, 5.0, 100.0]),
    )
    def operate(self, what: str, queue: str, number: float) -> None:
        if what == "prune":
            if self.both("prune", before=self.clock.now() + 1 - number):
                self.sent.clear()  # what was deleted would be stored anew: a call is not sent again after so long a time
        elif what == "advance":
            self.clock.advance(number)
        elif what == "repair":
            assert self.both("repair", limit=1000) == []
        elif what == "close":
            self.store.close()
        else:
            self.both("pause", queue, what == "pause")

    # ── what must hold after every step ──────────────────────────────────────────────────────────

    def check(self) -> None:
        self.they_agree()
        self.a_completed_job_never_changes()
        self.counters_count()
        self.a_batch_is_released_once()

    def they_agree(self) -> None:
        self.check_rows()

    def a_completed_job_never_changes(self) -> None:
        now = {job.id: job for job in self.seen.find(Filter(), limit=1000)}
        for id, before in self.completed.items():
            assert now.get(id, before) == before
        self.completed = {id: job for id, job in now.items() if job.state is State.COMPLETED}

    def counters_count(self) -> None:
        for id in self.batches:
            batch = self.seen.batch(id)
            if batch is None:
                continue
            assert batch.total == batch.open + batch.completed + batch.failed + batch.cancelled
            unsettled = [job for job in self.seen.find(Filter(batch=id), limit=1000) if job.finished_at is None]
            assert batch.open == len(unsettled)
            if batch.sealed and batch.state is BatchState.OPEN:
                assert batch.open > 0

    def a_batch_is_released_once(self) -> None:
        for id in self.batches:
            batch = self.seen.batch(id)
            before = self.was.get(id)
            if batch is None:
                continue
            if before is not None and before.state is BatchState.DONE:
                assert batch.state is BatchState.DONE
            then = self.seen.get([id])
            if then and then[0].cursor == "compose" and then[0].state in (State.AVAILABLE, State.RUNNING):
                assert batch.state is BatchState.DONE
            self.was[id] = batch


def is_splitter(run: Fetched) -> bool:
    return run.task == "split" and run.cursor is None


def policy_of(run: Fetched) -> OnFailure:
    return POLICIES[sum(map(ord, run.id)) % len(POLICIES)]


def splits(run: Fetched, ordinal: int) -> bool:
    """Whether a piece is a split itself: the same for each run of its splitter, and not too deep."""
    return ordinal % 2 == 1 and (run.root is None or run.batch == run.root)


def settlement_of(run: Fetched, end: str, offered: int) -> Settlement:
    fields: dict[str, Any] = {"state": State.AVAILABLE, "attempt": run.attempt, "cursor": run.cursor}
    error = ErrorInfo("ValueError", "bad body")
    if end == "completed":
        fields |= {"state": State.COMPLETED, "result": f'"{run.id}"'}
    elif end == "failed":
        fields |= {"state": State.FAILED, "attempt": run.attempt + 1, "error": error, "history": "failed"}
    elif end in ("retried", "delayed"):
        delay = 5.0 if end == "delayed" else None
        fields |= {"attempt": run.attempt + 1, "error": error, "history": "retry", "delay": delay}
    elif end == "released":
        fields |= {"history": "released"}
    elif end == "waiting":
        fields |= {"state": State.WAITING, "cursor": "compose", "seal": offered}
    else:
        fields |= {"state": State(end), "reason": end, "history": end}
    return Settlement(id=run.id, run=run.run, queue=run.queue, batch=run.batch, **fields)


def test_the_store_does_what_the_model_does(fresh_store: Callable[[FrozenClock], Store], shelf: str) -> None:
    """Random histories of every verb: the same answers and the same state, step by step."""
    walk_randomly(StoreMachine, fresh_store, examples=examples_on(shelf))
