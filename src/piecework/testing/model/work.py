"""How jobs are taken, and what their runs come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from piecework.errors import LeaseLost
from piecework.job import (
    Answer,
    BatchState,
    Claim,
    ErrorInfo,
    Fence,
    Fetched,
    NewBatch,
    Progress,
    Record,
    State,
)
from piecework.outcome import Settlement
from piecework.testing.model.tables import DEAD
from piecework.testing.model.walk import Walk

COMES_BACK = (State.AVAILABLE, State.WAITING, State.RUNNING)


class Work(Walk):
    """The verbs of workers."""

    def fetch(self, claim: Claim) -> list[Fetched]:
        with self._transaction():
            if claim.worker.rpartition(".")[0] not in self._t.sessions or claim.worker in self._t.reaped:
                raise LeaseLost(f"worker {claim.worker} is over, or its session is not enlisted or was declared dead")
            asked = (claim.worker, claim.number)
            again = [fence for fence in self._t.claims.get(asked, ()) if self._owns(fence)]
            self._t.claims[asked] = tuple(again or self._take(claim))
            return [self._fetched(self._t.jobs[fence.id]) for fence in self._t.claims[asked]]

    def _take(self, claim: Claim) -> list[Fence]:
        if claim.limit <= 0:
            return []
        now = self._clock.now()
        for id in [id for id in self._t.ahead if self._t.jobs[id].run_at <= now]:
            del self._t.ahead[id]
        self._wake()
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

    def settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        with self._transaction():
            return [self._settle(settlement) for settlement in settlements]

    def _settle(self, s: Settlement) -> Answer:
        if not self._owns(Fence(s.id, s.run)):
            return self._sent_again(s)
        self._t.settled[s.id] = s.run
        job = self._t.jobs[s.id]
        goes_on = s.state is State.RUNNING
        s = self._judge(job, s)
        self._record(job, s)
        if s.state.finished:
            self._end(s.id, s.state, error=s.error, reason=s.reason)
        elif s.state is State.RUNNING:
            self._set_job(s.id, run=s.run + 1, started_at=self._clock.now())
            return Answer.OK
        else:
            self._lay_down(job, s)
        if goes_on:
            self._set_job(s.id, run=s.run + 1)  # nobody else gets the number under which its worker may think it runs
            return Answer.LET_GO
        return Answer.OK

    def _sent_again(self, s: Settlement) -> Answer:
        """What is told of a run that has ended: whether it ended by this settlement, and whether it still goes on."""
        if self._t.settled.get(s.id) != s.run:
            return Answer.STALE
        let_go = s.state is State.RUNNING and not self._owns(Fence(s.id, s.run + 1))
        return Answer.LET_GO if let_go else Answer.ALREADY

    def _record(self, job: Record, s: Settlement) -> None:
        """What stays of a run, whatever state the job is in now."""
        if s.history is not None and s.advance is not None:
            at, changes = s.advance.at, s.advance.changes
            self._remember(job, s.history, s.attempt, s.error, s.reason, at=at, changes=changes, route=s.advance.route)
        elif s.history is not None:
            self._remember(job, s.history, s.attempt, s.error, s.reason)
        cursor = job.cursor if s.cursor is None else s.cursor
        self._set_job(s.id, attempt=s.attempt, result=s.result, cursor=cursor, error=s.error, reason=s.reason)
        if s.advance is not None:
            self._advance(s.id, s.advance)
            if s.state is State.COMPLETED and job.batch is not None and s.id in self._t.operations:
                self._set_job(s.id, result=self._globals(s.id))  # with what somebody set meanwhile

    def _lay_down(self, job: Record, s: Settlement) -> None:
        """The job is in nobody's hands: it comes back, waits, or is parked."""
        self._set_job(s.id, state=s.state, stopping=False)
        if s.delay is not None or s.cursor is not None:
            self._set_job(s.id, expires_at=None)
        handed_back = s.delay is None and s.attempt == job.attempt and s.advance is None
        if s.state is State.AVAILABLE and not handed_back:
            self._set_job(s.id, run_at=self._clock.now() + (s.delay or 0.0))
        own = self._own(s.id)
        if s.seal is not None and own is not None:
            self._seal(own.id)
            if own.state in DEAD:  # an `always` batch that has failed already
                self._release(own)
        if s.state is not State.PARKED and s.id in self._t.to_undo:
            self._undo(s.id)
        elif s.state is State.WAITING:
            self._listen(s.id)

    def _judge(self, job: Record, s: Settlement) -> Settlement:
        """What a run comes to, where it was asked to stop, or its queue is paused, or something became of its pieces."""
        if job.id in self._t.to_undo and _can_be_undone(s):
            return _made_available(s) if s.advance is not None else _stopped(job, s, State.AVAILABLE)
        if job.stopping and s.state in COMES_BACK:
            s = replace(s, state=State.CANCELLED, reason=job.reason) if s.advance else _stopped(job, s, State.CANCELLED)
        elif job.stopping and s.state is State.CANCELLED:
            s = replace(s, reason=job.reason or s.reason)
        elif s.state is State.RUNNING and s.advance is not None and self._may_not_stay(job, s.advance.queue):
            s = _made_available(s)
        return s if s.state in (State.COMPLETED, State.RUNNING) else self._judge_by_pieces(s)

    def _may_not_stay(self, job: Record, queue: str | None) -> bool:
        """Its queue is paused; or its globals were edited by hand during this run, and a fetch is to bring them."""
        edited = any(line.run == job.run and line.changes for line in self._t.amendments.get(job.id, ()))
        return edited or (queue or job.queue) in self._t.paused

    def _judge_by_pieces(self, s: Settlement) -> Settlement:
        """A splitter, or what follows it, ends as its batch did; what follows an `always` batch decides for itself."""
        own = self._own(s.id)
        if s.seal is not None and own is None:  # a splitter without pieces
            new = NewBatch(id=s.id if s.id not in self._t.batches else f"{s.id}.{s.run}", then=s.id)
            self._open(new)
            self._put_below(new)
            own = self._own(s.id)
        if own is None:
            return s
        if own.state in DEAD and self._t.opened[own.id].always:
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

    def _fetched(self, job: Record) -> Fetched:
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
            operation=self._operation_run(job.id),
        )

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        with self._transaction():
            return self.settle(settlements), self.fetch(claim)

    def holds(self, worker: str) -> list[Fence]:
        with self._changed:
            return [Fence(job.id, job.run) for job in self._running(worker)]

    def set_status(self, fence: Fence, status: str) -> bool:
        with self._transaction():
            if not self._owns(fence):
                return False
            self._set_job(fence.id, status=status, status_at=self._clock.now())
            return True

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        with self._transaction():
            stop = []
            for job in self._running(worker):
                if job.id in progress:
                    self._set_job(job.id, progress=progress[job.id])
                if job.stopping or self._doomed(job):
                    stop.append(job.id)
            return stop


def _stopped(job: Record, s: Settlement, state: State) -> Settlement:
    """It stopped because it was asked to."""
    return replace(s, state=state, reason=job.reason, history="cancelled", cursor=None, seal=None)


def _can_be_undone(s: Settlement) -> bool:
    """Not what has failed; the end of its last step is as that of any other."""
    return s.state in (*COMES_BACK, State.CANCELLED) or (s.state is State.COMPLETED and s.advance is not None)


def _made_available(s: Settlement) -> Settlement:
    """It has moved on, but not for what it would have waited for, nor here; or to its end, and does not stay there."""
    return replace(s, state=State.AVAILABLE, delay=s.delay or 0.0, result=None)


def _failing(s: Settlement, error: ErrorInfo) -> Settlement:
    return replace(s, state=State.FAILED, error=error, history="failed", cursor=None, seal=None)


def _expired(job: Record, now: float) -> bool:
    return job.expires_at is not None and job.expires_at <= now
