"""A store that is plain dicts: what every store must do, written so that it can be checked by reading it.

Rows are frozen values that are replaced, so a transaction is a copy of the dicts and undoing one puts the copy back.
Counters are not kept but counted. It is slow, lives in one process, and forgets everything with it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from piecework.clock import Clock, SystemClock
from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError, WithinNotSupported
from piecework.job import (
    CRASH_LIMIT,
    FIRST_RUNS,
    LAST_RUNS,
    Answer,
    AttemptRecord,
    BatchRecord,
    BatchState,
    Claim,
    ErrorInfo,
    Fence,
    Fetched,
    Filter,
    Finding,
    NewBatch,
    NewJob,
    OnFailure,
    PieceResult,
    Progress,
    Record,
    SessionRecord,
    State,
)
from piecework.outcome import Settlement

DEAD = (BatchState.FAILED, BatchState.STOPPED)
RETRIABLE = (State.FAILED, State.CANCELLED, State.PARKED)


@dataclass
class _Tables:
    """Everything that is stored. The order of `jobs` is the order of their arrival."""

    jobs: dict[str, Record] = field(default_factory=dict)
    batches: dict[str, BatchRecord] = field(default_factory=dict)  # their counters are not used: they are counted
    opened: dict[str, NewBatch] = field(default_factory=dict)
    pieces: dict[str, tuple[str, ...]] = field(default_factory=dict)  # batch -> ids
    pruned: dict[str, tuple[State, ...]] = field(default_factory=dict)  # batch -> the ends of pieces since deleted
    offers: dict[tuple[str, int, str], str] = field(default_factory=dict)  # (batch, run, piece key) -> id as offered
    settled: dict[str, int] = field(default_factory=dict)  # job -> the last run that its worker settled
    crashed: dict[str, bool] = field(default_factory=dict)  # pieces that are parked for crashing, and count as failed
    history: dict[str, tuple[AttemptRecord, ...]] = field(default_factory=dict)
    sessions: dict[str, SessionRecord] = field(default_factory=dict)
    claims: dict[tuple[str, int], tuple[Fence, ...]] = field(default_factory=dict)  # (worker, number) -> the answer
    paused: dict[str, bool] = field(default_factory=dict)

    def copy(self) -> _Tables:
        return _Tables(*[table.copy() for table in vars(self).values()])


class ModelStore:
    """The store's contract on dicts, under one lock."""

    url = "model:"

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._t = _Tables()
        self._changed = threading.Condition(threading.RLock())

    @contextmanager
    def _transaction(self) -> Iterator[_Tables]:
        with self._changed:
            before = self._t.copy()
            try:
                yield self._t
            except BaseException:
                self._t = before
                raise
            self._changed.notify_all()

    # ── the schema ───────────────────────────────────────────────────────────────────────────────

    def migrate(self) -> list[str]:
        return []

    def examine(self) -> list[Finding]:
        return [Finding("ok", "memory", "This store forgets everything when its process ends.")]

    def is_set_up(self) -> bool:
        return True

    def now(self) -> float:
        return self._clock.now()

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        batch: NewBatch | None = None,
        fence: Fence | None = None,
        within: Any = None,
    ) -> list[str]:
        if within is not None:
            raise WithinNotSupported("a model store has no connections")
        with self._transaction():
            if fence is not None and not self._owns(fence):
                raise LeaseLost(f"run {fence.run} of job {fence.id} has ended")
            opens = batch is not None and batch.id not in self._t.batches
            if batch is not None and opens:
                self._open(batch)
            answers = [self._add(new, fence) for new in jobs]
            if batch is not None and opens:
                self._put_below(batch)
            return answers

    def _owns(self, fence: Fence) -> bool:
        job = self._t.jobs.get(fence.id)
        return job is not None and job.state is State.RUNNING and job.run == fence.run

    def _open(self, new: NewBatch) -> None:
        self._t.opened[new.id] = new
        self._t.pieces[new.id] = ()
        self._t.batches[new.id] = BatchRecord(
            id=new.id,
            then=new.then,
            state=BatchState.OPEN,
            on_failure=new.on_failure,
            sealed=False,
            total=0,
            open=0,
            completed=0,
            failed=0,
            cancelled=0,
            created_at=self._clock.now(),
        )

    def _put_below(self, batch: NewBatch) -> None:
        """The continuation knows the batch that it waits for."""
        if batch.then is not None and batch.then in self._t.jobs:
            self._set_job(batch.then, below=batch.id)

    def _add(self, new: NewJob, fence: Fence | None) -> str:
        if new.id in self._t.jobs:
            self._offer(new, fence)
            return new.id
        if new.batch is not None:
            stored = self._offer(new, fence)
            if stored is not None:
                return stored
        carrier = self._carrier(new.key)
        if carrier is not None:
            return carrier.id
        if new.batch is not None:
            self._t.pieces[new.batch] += (new.id,)
        now = self._clock.now()
        run_at = new.run_at if new.run_at is not None else now + (new.delay or 0.0)
        self._t.jobs[new.id] = Record(
            id=new.id,
            task=new.task,
            args=new.args,
            queue=new.queue,
            priority=new.priority,
            state=new.state,
            run_at=run_at,
            expires_at=new.expires_at if new.expires is None else run_at + new.expires,
            run=0,
            attempt=0,
            crashes=0,
            created_at=now,
            batch=new.batch,
            root=new.root if new.root is not None else new.batch,
            ordinal=new.ordinal,
            piece=new.piece,
            key=new.key,
            options=new.options,
        )
        return new.id

    def _offer(self, new: NewJob, fence: Fence | None) -> str | None:
        """Notes that a run offered a piece, and returns the id of the piece where it is stored."""
        if new.batch is None:
            return None
        batch = self._t.batches.get(new.batch)
        if batch is None:
            raise UsageError(f"there is no batch {new.batch}")
        if batch.sealed and new.id in self._t.jobs:
            return new.id  # sent again, after the seal
        if batch.sealed:
            raise UsageError(f"batch {batch.id} is sealed")
        if batch.state in DEAD:
            raise JobCancelled(f"batch {batch.id} has ended as {batch.state}")
        key = new.piece if new.piece is not None else str(new.ordinal)
        if fence is not None:
            earlier = self._t.offers.setdefault((batch.id, fence.run, key), new.id)
            if earlier != new.id:
                raise SplitChanged(f"piece {key!r} was offered twice")
        for piece in self._pieces(batch.id):
            if piece.piece_key == key:
                if (piece.task, piece.args) != (new.task, new.args):
                    raise SplitChanged(f"piece {key!r} was offered with another task or other arguments")
                return piece.id
        return None

    def _carrier(self, key: str | None) -> Record | None:
        """The unfinished job that carries a unique key."""
        if key is None:
            return None
        return next((job for job in self._t.jobs.values() if job.key == key and not job.state.finished), None)

    def seal(self, batch: str) -> bool:
        with self._transaction():
            found = self._t.batches.get(batch)
            if found is None or found.sealed:
                return False
            self._seal(batch)
            return True

    def _seal(self, batch: str) -> None:
        self._set_batch(batch, sealed=True)
        self._look_at(batch)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def fetch(self, claim: Claim) -> list[Fetched]:
        with self._transaction():
            if claim.worker.rpartition(".")[0] not in self._t.sessions:
                raise LeaseLost(f"the session of worker {claim.worker} is not enlisted, or was buried")
            asked = (claim.worker, claim.number)
            if asked not in self._t.claims:
                self._t.claims[asked] = tuple(self._take(claim))
            return [_fetched(self._t.jobs[fence.id]) for fence in self._t.claims[asked] if self._owns(fence)]

    def _take(self, claim: Claim) -> list[Fence]:
        if claim.limit <= 0:
            return []
        now = self._clock.now()
        for job in sorted(self._t.jobs.values(), key=lambda job: job.expires_at or 0.0):
            if _expired(job, now) and self._t.jobs[job.id].state is State.AVAILABLE:
                self._end(job.id, State.CANCELLED, reason="it had not been begun in time")
        due = [
            job
            for job in self._t.jobs.values()
            if job.state is State.AVAILABLE
            and job.run_at <= now
            and job.queue not in self._t.paused
            and (claim.queues is None or job.queue in claim.queues)
        ]
        taken: list[Fence] = []
        for job in sorted(due, key=lambda job: (job.priority, job.run_at)):  # stable: equals stay in order of arrival
            if len(taken) == claim.limit:
                break
            if self._doomed(job):
                self._end(job.id, State.CANCELLED, reason="its batch has ended")
                continue
            changes = {"state": State.RUNNING, "run": job.run + 1, "worker": claim.worker, "started_at": now}
            self._set_job(job.id, **changes)
            taken.append(Fence(job.id, job.run + 1))
        return taken

    def _doomed(self, job: Record) -> bool:
        batch = self._t.batches.get(job.batch or "")
        return batch is not None and batch.state in DEAD

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        with self._transaction():
            return [self._settle(settlement) for settlement in settlements]

    def _settle(self, s: Settlement) -> Answer:
        if not self._owns(Fence(s.id, s.run)):
            return Answer.ALREADY if self._t.settled.get(s.id) == s.run else Answer.STALE
        self._t.settled[s.id] = s.run
        job = self._t.jobs[s.id]
        s = self._judge(job, s)
        if s.history is not None:
            self._remember(job, s.history, s.attempt, s.error, s.reason)
        cursor = job.cursor if s.cursor is None else s.cursor
        self._set_job(s.id, attempt=s.attempt, result=s.result, cursor=cursor, error=s.error, reason=s.reason)
        if s.state.finished:
            self._end(s.id, s.state, error=s.error, reason=s.reason)
            return Answer.OK
        self._set_job(s.id, state=s.state, stopping=False)
        handed_back = s.delay is None and s.attempt == job.attempt
        if s.delay is not None or s.cursor is not None:
            self._set_job(s.id, expires_at=None)
        if s.state is State.AVAILABLE and not handed_back:
            self._set_job(s.id, run_at=self._clock.now() + (s.delay or 0.0))
        own = self._own(s.id)
        if s.seal is not None and own is not None:
            self._seal(own.id)
        return Answer.OK

    def _judge(self, job: Record, s: Settlement) -> Settlement:
        """What a run comes to, where it was asked to stop or where something became of its pieces."""
        if job.stopping and s.state in (State.AVAILABLE, State.WAITING):
            s = replace(s, state=State.CANCELLED, reason=job.reason, history="cancelled", cursor=None, seal=None)
        elif job.stopping and s.state is State.CANCELLED:
            s = replace(s, reason=job.reason or s.reason)
        if s.state is State.COMPLETED:
            return s
        own = self._own(s.id)
        if s.seal is not None and own is None:  # a splitter without pieces
            self._open(NewBatch(id=s.id, then=s.id))
            self._put_below(self._t.opened[s.id])
            own = self._own(s.id)
        if own is None:
            return s
        if own.state is BatchState.FAILED and s.state in (State.WAITING, State.CANCELLED, State.FAILED):
            return _failing(s, self._why_failed(own.id))
        if own.state is BatchState.STOPPED and s.state in (State.WAITING, State.CANCELLED, State.FAILED):
            return replace(s, state=State.CANCELLED, history="cancelled", cursor=None, seal=None)
        if s.seal is not None and s.seal != self._counted(own.id).total:
            strays = [str(piece.piece_key) for piece in self._pieces(own.id) if self._stray(piece, s.run)]
            if strays:
                changed = f"pieces that were offered before and not by this run: {', '.join(strays)}"
                return _failing(s, ErrorInfo("SplitChanged", changed))
        return s

    def _stray(self, piece: Record, run: int) -> bool:
        """A piece that an earlier run of the splitter offered, and this one did not."""
        offered = (piece.batch, run, piece.piece_key) in self._t.offers
        return not offered and piece.state is not State.CANCELLED

    def _own(self, id: str) -> BatchRecord | None:
        """The batch that a job waits for, or will."""
        return self._t.batches.get(self._t.jobs[id].below or "")

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        with self._transaction():
            return self.settle(settlements), self.fetch(claim)

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        with self._transaction():
            stop = []
            for job in self._running(worker):
                if job.id in progress:
                    self._set_job(job.id, progress=progress[job.id])
                if job.stopping or self._doomed(job):
                    stop.append(job.id)
            return stop

    def _running(self, worker: str) -> list[Record]:
        return [job for job in self._t.jobs.values() if job.state is State.RUNNING and job.worker == worker]

    # ── what the end of a job means for batches ──────────────────────────────────────────────────

    def _end(self, id: str, state: State, *, error: ErrorInfo | None = None, reason: str | None = None) -> None:
        """The one way for a job to end: with its own batch, if that is open, and in the batch it is a piece of."""
        error = error or self._t.jobs[id].error  # a cancelled job still shows why its last run ended
        self._set_job(id, state=state, finished_at=self._clock.now(), stopping=False, error=error, reason=reason)
        self._t.crashed.pop(id, None)
        own = self._own(id)
        if own is not None and own.state is BatchState.OPEN:
            self._close(own, BatchState.FAILED if state is State.FAILED else BatchState.STOPPED)
        self._count_piece(id)

    def _count_piece(self, id: str) -> None:
        """A piece has come to its end; its batch may have, too."""
        piece = self._t.jobs[id]
        batch = self._t.batches.get(piece.batch or "")
        if batch is None or batch.state is not BatchState.OPEN:
            return
        if batch.on_failure is OnFailure.FAIL_FAST and self._failed(piece):
            self._fail(batch)
        else:
            self._look_at(batch.id)

    def _look_at(self, id: str) -> None:
        """Ends a batch that is sealed and has no open piece left."""
        batch = self._counted(id)
        if batch.state is not BatchState.OPEN or not batch.sealed or batch.open > 0:
            return
        if batch.failed + batch.cancelled > 0 and batch.on_failure is not OnFailure.COMPOSE:
            self._fail(batch)
            return
        self._set_batch(id, state=BatchState.DONE, finished_at=self._clock.now())
        then = self._t.jobs.get(batch.then or "")
        if then is not None and then.state is State.WAITING:
            new = self._t.opened[id]
            self._set_job(
                then.id,
                state=State.AVAILABLE,
                run_at=self._clock.now(),
                attempt=0,
                crashes=0,
                queue=then.queue if new.then_queue is None else new.then_queue,
                priority=then.priority if new.then_priority is None else new.then_priority,
            )

    def _fail(self, batch: BatchRecord) -> None:
        """A batch fails, and with it what was to follow it; a splitter that still runs fails when it answers."""
        self._close(batch, BatchState.FAILED)
        then = self._t.jobs.get(batch.then or "")
        if then is None:
            return
        error = self._why_failed(batch.id)
        if then.state is State.RUNNING:
            self._ask_to_stop(then, error.message)
        elif not self._ended(then):
            self._remember(then, "failed", then.attempt, error, None)
            self._end(then.id, State.FAILED, error=error)

    def _close(self, batch: BatchRecord, state: BatchState) -> None:
        """A batch fails or is stopped, and all below it: what has not started never does, what runs is asked to stop."""
        self._set_batch(batch.id, state=state, finished_at=self._clock.now())
        for piece in self._pieces(batch.id):
            own = self._own(piece.id)
            if own is not None and own.state is BatchState.OPEN:
                self._close(own, BatchState.STOPPED)
            if piece.state in (State.WAITING, State.AVAILABLE):
                self._end(piece.id, State.CANCELLED, reason="its batch had ended")
            elif piece.state is State.RUNNING:
                self._ask_to_stop(piece, "its batch has ended")

    def _ask_to_stop(self, job: Record, reason: str) -> None:
        if not job.stopping:
            self._set_job(job.id, stopping=True, reason=reason)

    def _why_failed(self, batch: str) -> ErrorInfo:
        """Names the first failed piece, else the first cancelled one."""
        pieces = sorted(self._pieces(batch), key=lambda piece: piece.ordinal or 0)
        for piece in pieces:
            if self._failed(piece):
                error = f"{piece.error.type}: {piece.error.message}" if piece.error else piece.reason
                return ErrorInfo("PieceFailed", f"piece {piece.piece_key!r} failed: {error}")
        for piece in pieces:
            if piece.state is State.CANCELLED:
                return ErrorInfo("PieceFailed", f"piece {piece.piece_key!r} was cancelled: {piece.reason}")
        return ErrorInfo("PieceFailed", "a piece failed")

    def _failed(self, job: Record) -> bool:
        return job.state is State.FAILED or job.id in self._t.crashed

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        with self._transaction():
            self._t.sessions.setdefault(session.id, session)

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        with self._transaction():
            alive = self._t.sessions.get(session)
            if alive is None:
                return False
            now = self._clock.now()
            polled_at = alive.polled_at if polled is None else now - polled
            self._t.sessions[session] = replace(alive, beat=alive.beat + 1, seen_at=now, polled_at=polled_at)
            return True

    def sessions(self) -> list[SessionRecord]:
        with self._changed:
            return list(self._t.sessions.values())

    def bury(self, session: str, beat: int | None = None) -> int | None:
        with self._transaction():
            alive = self._t.sessions.get(session)
            if beat is not None and (alive is None or alive.beat != beat):
                return None
            self._t.sessions.pop(session, None)
            ids = [job.id for job in self._t.jobs.values() if job.state is State.RUNNING and _session(job) == session]
            for id in ids:
                self._take_away(id, "its session ended")
            return len(ids)

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        with self._transaction():
            guilty = set(crashed)
            ids = [job.id for job in self._running(worker)]
            for id in ids:
                self._take_away(id, reason, crash_limit if id in guilty else None)
            return ids

    def _take_away(self, id: str, reason: str, crash_limit: int | None = None) -> None:
        """A run's worker is gone; with a limit, the run is to blame."""
        job = self._t.jobs[id]
        blamed = crash_limit is not None
        crashes = job.crashes + blamed
        self._remember(job, "crashed" if blamed else "released", job.attempt, None, reason)
        self._set_job(id, crashes=crashes, expires_at=None if blamed else job.expires_at)
        if crash_limit is not None and crashes >= crash_limit and not job.stopping:
            self._park(job, reason)
        else:
            self._hand_back(job)

    def _park(self, job: Record, reason: str) -> None:
        """Poison: it counts as failed in its batch, although it is kept."""
        self._set_job(job.id, state=State.PARKED, reason=reason, stopping=False, finished_at=self._clock.now())
        self._t.crashed[job.id] = True
        self._count_piece(job.id)

    def _hand_back(self, job: Record) -> None:
        """To the head of its queue, its `run_at` unchanged; unless it was asked to stop, then it has."""
        own = self._own(job.id)
        if job.stopping and own is not None and own.state is BatchState.FAILED:
            self._end(job.id, State.FAILED, error=self._why_failed(own.id))
        elif job.stopping:
            self._end(job.id, State.CANCELLED, reason=job.reason)
        else:
            self._set_job(job.id, state=State.AVAILABLE)

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def cancel(self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000) -> int:
        with self._transaction():
            matching = [job.id for job in self._matching(which) if not job.state.finished and not job.stopping][:limit]
            for id in matching if by is not None else ():
                self._set_job(id, stopped_by=by, stopped_at=self._clock.now())
            for id in matching:
                job = self._t.jobs[id]
                if job.state is State.RUNNING:
                    self._ask_to_stop(job, reason)
                elif not job.state.finished:  # it may have ended since, with a batch that ended before it
                    self._end(id, State.CANCELLED, reason=reason)
            loose = [batch for id in which.ids or () if (batch := self._t.batches.get(id)) and batch.then is None]
            stopped = [batch for batch in loose if batch.state is BatchState.OPEN]
            for batch in stopped:
                self._close(batch, BatchState.STOPPED)
            return len(matching) + len(stopped)

    def retry(self, which: Filter, *, limit: int = 1000, resume: bool = False) -> int:
        states = (State.CANCELLED,) if resume else RETRIABLE
        with self._transaction():
            matching = [job.id for job in self._matching(which) if job.state in states][:limit]
            return sum(self._retry(id, states) for id in matching)

    def _retry(self, id: str, states: tuple[State, ...]) -> bool:
        job = self._t.jobs[id]
        if job.state not in RETRIABLE or self._taken(job) or not self._may_open_above(job):
            return False
        self._open_above(job)
        self._revive(job, states)
        return True

    def _taken(self, job: Record) -> bool:
        """Another unfinished job carries its unique key."""
        carrier = self._carrier(job.key)
        return carrier is not None and carrier.id != job.id

    def _ended(self, job: Record) -> bool:
        """It is counted in its batch as something else than open."""
        return job.state.finished or job.id in self._t.crashed

    def _may_open_above(self, piece: Record) -> bool:
        if piece.batch is None:
            return True
        batch = self._t.batches.get(piece.batch)
        if not self._ended(piece):  # parked; in a batch that has ended it would be cancelled before it started
            return batch is None or batch.state is BatchState.OPEN
        if batch is None or batch.state is BatchState.DONE:
            return False  # what a compose has read does not change under it
        then = self._t.jobs.get(batch.then or "")
        if batch.state is BatchState.OPEN or then is None or then.state not in RETRIABLE:
            return True
        return not self._taken(then) and self._may_open_above(then)

    def _open_above(self, piece: Record) -> None:
        """Opens the batch of a piece that begins anew; what was to follow waits again, and so on up to the root."""
        if piece.batch is None or not self._ended(piece) or self._t.batches[piece.batch].state is BatchState.OPEN:
            return
        batch = self._t.batches[piece.batch]
        then = self._t.jobs.get(batch.then or "")
        if then is not None and then.state in RETRIABLE:
            self._open_above(then)
            self._begin_anew(then)
        self._set_batch(batch.id, state=BatchState.OPEN, finished_at=None)

    def _revive(self, job: Record, states: tuple[State, ...]) -> None:
        """The job begins anew, and so do the pieces below it that ended badly."""
        self._begin_anew(job)
        own = self._own(job.id)
        if own is None or own.state not in DEAD:
            return
        self._set_batch(own.id, state=BatchState.OPEN, finished_at=None)
        for piece in self._pieces(own.id):
            if piece.state in states and not self._taken(piece):
                self._revive(piece, states)
        self._look_at(own.id)

    def _begin_anew(self, job: Record) -> None:
        state = self._anew(job)
        self._set_job(
            job.id,
            state=state,
            run_at=self._clock.now() if state is State.AVAILABLE else job.run_at,
            attempt=0,
            crashes=0,
            error=None,
            reason=None,
            finished_at=None,
            stopping=False,
            expires_at=None,
            stopped_by=None,
            stopped_at=None,
        )
        self._t.crashed.pop(job.id, None)

    def _anew(self, job: Record) -> State:
        """Waiting, if it waits for a batch; but a splitter that did not come to its end splits again."""
        own = self._own(job.id)
        if own is None or own.state is BatchState.DONE:
            return State.AVAILABLE
        splits_again = not own.sealed and job.run > 0
        return State.AVAILABLE if splits_again else State.WAITING

    def prune(self, *, before: float, limit: int = 1000) -> int:
        with self._transaction():
            old = [job for job in self._t.jobs.values() if self._prunable(job, before)][:limit]
            for job in old:
                self._delete(job)
            for batch in list(self._t.batches.values()):
                over = batch.then is None and batch.finished_at is not None and batch.finished_at < before
                if over and not self._pieces(batch.id):
                    del self._t.batches[batch.id]
            return len(old)

    def _prunable(self, job: Record, before: float) -> bool:
        return _past(job, before) and self._gone(job.root, before) and not self._awaited(job, before)

    def _gone(self, id: str | None, before: float) -> bool:
        job = self._t.jobs.get(id or "")
        return job is None or _past(job, before)

    def _awaited(self, piece: Record, before: float) -> bool:
        """Its batch is open, or somebody may still read what the batch came to."""
        batch = self._t.batches.get(piece.batch or "")
        return batch is not None and (batch.state is BatchState.OPEN or not self._gone(batch.then, before))

    def _delete(self, job: Record) -> None:
        self._erase(job)
        if job.batch is not None:
            self._t.pruned[job.batch] = (*self._t.pruned.get(job.batch, ()), job.state)

    def _erase(self, job: Record) -> None:
        del self._t.jobs[job.id]
        for table in (self._t.history, self._t.settled, self._t.crashed):
            table.pop(job.id, None)
        for batch in [batch for batch in self._t.batches.values() if batch.then == job.id]:
            del self._t.batches[batch.id]
        if job.batch is not None:
            self._t.pieces[job.batch] = tuple(id for id in self._t.pieces[job.batch] if id != job.id)

    def delete(self, which: Filter, *, limit: int = 1000) -> int:
        with self._transaction():
            heads = [job for job in self._matching(which) if self._may_go(job)][:limit]
            gone = {member.id: member for job in heads for member in self._tree(job)}
            for job in gone.values():
                self._erase(job)
            for id in {job.batch for job in gone.values() if job.batch in self._t.batches}:
                if self._t.batches[id].then is None and not self._counted(id).total:
                    del self._t.batches[id]
            return len(gone)

    def _may_go(self, job: Record) -> bool:
        batch, root = self._t.batches.get(job.batch or ""), self._t.jobs.get(job.root or "")
        missed = batch is not None and batch.state is BatchState.OPEN
        missed = missed or (root is not None and root.state is not State.COMPLETED)
        return not missed and all(self._is_over(member) for member in self._tree(job))

    def _is_over(self, job: Record) -> bool:
        own = self._own(job.id)
        return (job.state.finished or job.state is State.PARKED) and (own is None or own.state is not BatchState.OPEN)

    def _tree(self, job: Record) -> list[Record]:
        """A job and all below it."""
        own = self._own(job.id)
        below = [] if own is None else self._pieces(own.id)
        return [job, *(member for piece in below for member in self._tree(piece))]

    def repair(self, *, limit: int = 10) -> list[str]:
        with self._transaction():
            for job in list(self._t.jobs.values()):
                if job.state is State.AVAILABLE and self._doomed(job):  # as a fetch would, had one met it
                    self._end(job.id, State.CANCELLED, reason="its batch has ended")
            return []  # counters are counted: they cannot be wrong

    def pause(self, queue: str, on: bool = True) -> None:
        with self._transaction():
            if on:
                self._t.paused[queue] = True
            else:
                self._t.paused.pop(queue, None)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def get(self, ids: Sequence[str]) -> list[Record]:
        with self._changed:
            return [self._t.jobs[id] for id in ids if id in self._t.jobs]

    def find(self, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Record]:
        with self._changed:
            order = list(self._t.jobs)
            if newest:
                order.reverse()
            if after is not None:
                order = order[order.index(after) + 1 :] if after in self._t.jobs else []
            matching = {job.id: job for job in self._matching(which)}
            return [matching[id] for id in order if id in matching][:limit]

    def _matching(self, which: Filter) -> list[Record]:
        return [job for job in self._t.jobs.values() if _matches(job, which)]

    def count(self, which: Filter) -> int:
        with self._changed:
            return len(self._matching(which))

    def counts(self) -> dict[tuple[str, str], int]:
        with self._changed:
            return dict(Counter((job.queue, job.state.value) for job in self._t.jobs.values()))

    def batch(self, id: str) -> BatchRecord | None:
        with self._changed:
            return self._counted(id) if id in self._t.batches else None

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

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        with self._changed:
            found = [
                PieceResult(job.ordinal or 0, job.piece, job.id, job.task, job.state, job.result, job.error)
                for job in self._pieces(batch)
                if (job.ordinal or 0) > after and (not failed or job.state in RETRIABLE)
            ]
            return sorted(found, key=lambda piece: piece.ordinal)[:limit]

    def attempts(self, id: str) -> list[AttemptRecord]:
        with self._changed:
            return list(self._t.history.get(id, ()))

    def paused(self) -> list[str]:
        with self._changed:
            return sorted(self._t.paused)

    def oldest_due(self) -> dict[str, float]:
        with self._changed:
            now, oldest = self._clock.now(), dict[str, float]()
            for job in self._t.jobs.values():
                if job.state is State.AVAILABLE and job.run_at <= now:
                    oldest[job.queue] = max(oldest.get(job.queue, 0.0), now - job.run_at)
            return oldest

    # ── waiting ──────────────────────────────────────────────────────────────────────────────────

    def wait(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait(timeout)

    def next_due(self) -> float | None:
        with self._changed:
            now = self._clock.now()
            open = [job for job in self._t.jobs.values() if job.state is State.AVAILABLE]
            later = [job.run_at for job in open if job.run_at > now]
            later += [job.expires_at for job in open if job.expires_at is not None]
            return max(0.0, min(later) - now) if later else None

    def close(self) -> None:
        pass

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────

    def _set_job(self, id: str, **changes: Any) -> None:
        self._t.jobs[id] = replace(self._t.jobs[id], **changes)

    def _set_batch(self, id: str, **changes: Any) -> None:
        self._t.batches[id] = replace(self._t.batches[id], **changes)

    def _pieces(self, batch: str) -> list[Record]:
        return [self._t.jobs[id] for id in self._t.pieces.get(batch, ())]

    def _remember(self, job: Record, outcome: str, attempt: int, error: ErrorInfo | None, reason: str | None) -> None:
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
        )
        earlier = self._t.history.get(job.id, ())
        if (line.run, line.outcome) not in [(other.run, other.outcome) for other in earlier]:
            kept = [other for other in earlier if other.run <= FIRST_RUNS or other.run > line.run - LAST_RUNS]
            self._t.history[job.id] = (*kept, line)


def _failing(s: Settlement, error: ErrorInfo) -> Settlement:
    return replace(s, state=State.FAILED, error=error, history="failed", cursor=None, seal=None)


def _past(job: Record, before: float) -> bool:
    """It ended well, or was cancelled, before a moment."""
    well = job.state in (State.COMPLETED, State.CANCELLED)
    return well and job.finished_at is not None and job.finished_at < before


def _expired(job: Record, now: float) -> bool:
    return job.expires_at is not None and job.expires_at <= now


def _session(job: Record) -> str | None:
    return job.worker.rpartition(".")[0] if job.worker is not None else None


def _matches(job: Record, which: Filter) -> bool:
    wanted = {
        name: getattr(which, name)
        for name in ("queue", "task", "state", "batch", "root", "key", "worker")
        if getattr(which, name) is not None
    }
    return (which.ids is None or job.id in which.ids) and all(
        getattr(job, name) == value for name, value in wanted.items()
    )


def _fetched(job: Record) -> Fetched:
    return Fetched(
        id=job.id,
        run=job.run,
        task=job.task,
        queue=job.queue,
        priority=job.priority,
        attempt=job.attempt,
        crashes=job.crashes,
        batch=job.batch,
        root=job.root,
        cursor=job.cursor,
        options=job.options,
        started_at=job.started_at or 0.0,
        args=job.args,
    )
