"""What the model stores, and the ways to read and change its rows.

Rows are frozen values that are replaced, so a transaction is a copy of the dicts and undoing one puts the copy back.
Counters are not kept but counted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from piecework.clock import Clock, SystemClock
from piecework.job import (
    FIRST_RUNS,
    LAST_RUNS,
    AmendmentRecord,
    AttemptRecord,
    BatchRecord,
    BatchState,
    Change,
    ErrorInfo,
    Fence,
    Filter,
    NewBatch,
    OperationRecord,
    Record,
    Route,
    SessionRecord,
    SignalRecord,
    State,
)
from piecework.parts import DistributedRecord, PartRecord

DEAD = (BatchState.FAILED, BatchState.STOPPED)
RETRIABLE = (State.FAILED, State.CANCELLED, State.PARKED)
STEPS = ("completed", "undone")  # lines that are kept for ever: by them an operation is understood


@dataclass
class Tables:
    """Everything that is stored. The order of `jobs` is the order of their arrival."""

    jobs: dict[str, Record] = field(default_factory=dict)
    batches: dict[str, BatchRecord] = field(default_factory=dict)  # their counters are not used: they are counted
    opened: dict[str, NewBatch] = field(default_factory=dict)
    pieces: dict[str, tuple[str, ...]] = field(default_factory=dict)  # batch -> ids
    pruned: dict[str, tuple[State, ...]] = field(default_factory=dict)  # batch -> the ends of pieces since deleted
    offers: dict[tuple[str, int, str], str] = field(default_factory=dict)  # (batch, run, piece key) -> id as offered
    settled: dict[str, int] = field(default_factory=dict)  # job -> the last run that its worker settled
    ahead: dict[str, bool] = field(default_factory=dict)  # jobs that have not joined their line since their time came
    crashed: dict[str, bool] = field(default_factory=dict)  # pieces that are parked for crashing, and count as failed
    history: dict[str, tuple[AttemptRecord, ...]] = field(default_factory=dict)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    claims: dict[tuple[str, int], tuple[Fence, ...]] = field(default_factory=dict)  # (worker, number) -> the answer
    reaped: dict[str, bool] = field(default_factory=dict)  # workers that get nothing any more
    paused: dict[str, bool] = field(default_factory=dict)
    operations: dict[str, OperationRecord] = field(default_factory=dict)  # job -> all but its globals, which are …
    globals: dict[str, dict[str, Change]] = field(default_factory=dict)  # … job -> key -> value and terms
    to_undo: dict[str, bool] = field(default_factory=dict)  # operations that were asked to stop in order to be undone
    plans: dict[str, str] = field(default_factory=dict)  # digest -> plan
    signals: dict[str, tuple[SignalRecord, ...]] = field(default_factory=dict)
    amendments: dict[str, tuple[AmendmentRecord, ...]] = field(default_factory=dict)
    distributed: dict[str, DistributedRecord] = field(default_factory=dict)
    parts: dict[str, dict[str, PartRecord]] = field(default_factory=dict)  # token -> name -> part, in their order
    part_calls: dict[tuple[str, str], str] = field(default_factory=dict)  # (token, name) -> the call that ended it
    # call -> how many it deleted, known until then
    forgot_by: dict[str, tuple[int, float]] = field(default_factory=dict)

    def copy(self) -> Tables:
        return Tables(*[table.copy() for table in vars(self).values()])


class Rows:
    """One lock around the tables; rows are found and replaced here."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._t = Tables()
        self._changed = threading.Condition(threading.RLock())

    @contextmanager
    def _transaction(self) -> Iterator[Tables]:
        with self._changed:
            before = self._t.copy()
            try:
                yield self._t
            except BaseException:
                self._t = before
                raise
            self._changed.notify_all()

    def _set_job(self, id: str, **changes: Any) -> None:
        self._t.jobs[id] = replace(self._t.jobs[id], **changes)
        if changes.keys() & {"state", "run_at"}:
            self._place(id)

    def _place(self, id: str) -> None:
        """A job that is available joins its line: now, or with the first fetch after its time has come."""
        job = self._t.jobs[id]
        self._t.ahead.pop(id, None)
        if job.state is State.AVAILABLE and job.run_at > self._clock.now():
            self._t.ahead[id] = True

    def _set_batch(self, id: str, **changes: Any) -> None:
        self._t.batches[id] = replace(self._t.batches[id], **changes)

    def _set_operation(self, id: str, **changes: Any) -> None:
        self._t.operations[id] = replace(self._t.operations[id], **changes)

    def _owns(self, fence: Fence) -> bool:
        job = self._t.jobs.get(fence.id)
        return job is not None and job.state is State.RUNNING and job.run == fence.run

    def _own(self, id: str) -> BatchRecord | None:
        """The batch that a job waits for, or will."""
        return self._t.batches.get(self._t.jobs[id].below or "")

    def _pieces(self, batch: str) -> list[Record]:
        return [self._t.jobs[id] for id in self._t.pieces.get(batch, ())]

    def _running(self, worker: str) -> list[Record]:
        return [job for job in self._t.jobs.values() if job.state is State.RUNNING and job.worker == worker]

    def _ended(self, job: Record) -> bool:
        """It is counted in its batch as something else than open."""
        return job.state.finished or job.id in self._t.crashed

    def _doomed(self, job: Record) -> bool:
        batch = self._t.batches.get(job.batch or "")
        return batch is not None and batch.state in DEAD

    def _counted(self, id: str) -> BatchRecord:
        ends = Counter(self._t.pruned.get(id, ()))
        for piece in self._pieces(id):
            ends[State.FAILED if piece.id in self._t.crashed else piece.state] += 1
        completed, failed, cancelled = ends[State.COMPLETED], ends[State.FAILED], ends[State.CANCELLED]
        total = sum(ends.values())
        return replace(
            self._t.batches[id],
            total=total,
            open=total - completed - failed - cancelled,
            completed=completed,
            failed=failed,
            cancelled=cancelled,
        )

    def _carrier(self, key: str | None) -> Record | None:
        """The unfinished job that carries a unique key."""
        if key is None:
            return None
        return next((job for job in self._t.jobs.values() if job.key == key and not job.state.finished), None)

    def _matching(self, which: Filter) -> list[Record]:
        return [job for job in self._t.jobs.values() if self._matches(job, which)]

    def _matches(self, job: Record, which: Filter) -> bool:
        if which.ids is not None and job.id not in which.ids:
            return False
        if which.operations is not None and which.operations is not (job.id in self._t.operations):
            return False
        if which.terms is not None and not self._has_terms(job.id, which.terms):
            return False
        if not set(which.tags or ()) <= set(job.tags) or not _in_time(job, which):
            return False
        names = ("queue", "task", "state", "batch", "root", "key", "worker", "identity")
        wanted = {name: getattr(which, name) for name in names if getattr(which, name) is not None}
        return all(getattr(job, name) == value for name, value in wanted.items())

    def _has_terms(self, id: str, terms: tuple[str, ...]) -> bool:
        """Only operations have terms; one that is looked for by none at all is found."""
        there = {term for change in self._t.globals.get(id, {}).values() for term in change.terms}
        return id in self._t.operations and there.issuperset(terms)

    # ── the history ──────────────────────────────────────────────────────────────────────────────

    def _remember(
        self,
        job: Record,
        outcome: str,
        attempt: int,
        error: ErrorInfo | None,
        reason: str | None,
        *,
        at: str | None = None,
        changes: tuple[Change, ...] = (),
        route: Route | None = None,
    ) -> None:
        """Keeps a line of the run that this row shows; `at` is where it was, if not where the row is."""
        line = AttemptRecord(
            job=job.id,
            run=job.run,
            attempt=attempt,
            outcome=outcome,
            started_at=job.started_at,
            finished_at=self._clock.now(),
            worker=job.worker,
            error=error,
            reason=reason,
            cursor=job.cursor if at is None else at,
            changes=changes,
            route=route,
        )
        earlier = self._t.history.get(job.id, ())
        if (line.run, line.outcome) not in [(other.run, other.outcome) for other in earlier]:
            kept = self._of_visits(earlier, line) if job.id in self._t.operations else _of_runs(earlier, line)
            self._t.history[job.id] = (*kept, line)

    def _of_visits(self, lines: tuple[AttemptRecord, ...], new: AttemptRecord) -> list[AttemptRecord]:
        """Of an operation: every step, and of each visit the first lines of its other runs and the last ones."""
        same = [line for line in lines if line.cursor == new.cursor and line.outcome not in STEPS]
        going = same[FIRST_RUNS : 1 - LAST_RUNS] if new.outcome not in STEPS else []
        return [line for line in lines if line not in going]


def _in_time(job: Record, which: Filter) -> bool:
    """Whether a job came and ended in the times that are asked for; one that has not ended did so in none."""
    came = _between(job.created_at, which.created_from, which.created_before)
    return came and _between(job.finished_at, which.finished_from, which.finished_before)


def _between(moment: float | None, first: float | None, end: float | None) -> bool:
    if first is None and end is None:
        return True
    return moment is not None and (first is None or moment >= first) and (end is None or moment < end)


def _of_runs(lines: tuple[AttemptRecord, ...], new: AttemptRecord) -> list[AttemptRecord]:
    return [line for line in lines if line.run <= FIRST_RUNS or line.run > new.run - LAST_RUNS]
