"""What people ask for: to stop, to begin anew, to go another way."""

from __future__ import annotations

from collections.abc import Sequence

from piecework.job import (
    Amendment,
    AmendmentRecord,
    Answer,
    BatchState,
    Deed,
    Ending,
    Filter,
    NewSignal,
    Record,
    SignalRecord,
    State,
)
from piecework.testing.model.tables import DEAD, RETRIABLE
from piecework.testing.model.walk import Walk


class Operators(Walk):
    """The verbs that change what workers do."""

    def cancel(
        self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
    ) -> int:
        with self._transaction():
            unfinished = [job for job in self._matching(which) if not job.state.finished and not job.stopping]
            matching = [job.id for job in unfinished if not (undo and self._is_undone(job.id))][:limit]
            for id in matching if by is not None else ():
                self._set_job(id, stopped_by=by, stopped_at=self._clock.now())
                self._note(id, "undoing" if undo else "cancelled", by, reason)
            for id in matching:
                job = self._t.jobs[id]
                if undo and id in self._t.operations and not job.state.finished:
                    self._ask_to_undo(job, Ending(State.CANCELLED, None, reason, by))
                elif job.state is State.RUNNING:
                    self._ask_to_stop(job, reason)
                elif not job.state.finished:  # it may have ended since, with a batch that ended before it
                    self._end(id, State.CANCELLED, reason=reason)
            loose = [batch for id in which.ids or () if (batch := self._t.batches.get(id)) and batch.then is None]
            stopped = [batch for batch in loose if batch.state is BatchState.OPEN]
            for batch in stopped:
                self._close(batch, BatchState.STOPPED)
            return len(matching) + len(stopped)

    def _is_undone(self, id: str) -> bool:
        return id in self._t.operations and self._t.operations[id].ending is not None

    def _ask_to_undo(self, job: Record, ending: Ending) -> None:
        self._set_operation(job.id, ending=ending)
        if job.state is State.RUNNING:
            self._t.to_undo[job.id] = True
            self._ask_to_stop(job, ending.reason or "")
        else:
            self._undo(job.id)

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        with self._transaction():
            made = self._t.amendments.get(id, ())
            if amendment.id in [line.id for line in made]:
                return Answer.ALREADY
            job = self._t.jobs.get(id)
            moves = amendment.cursor is not None
            if (
                job is None
                or id not in self._t.operations
                or job.cursor != cursor
                or (moves and not self._movable(job))
                or (amendment.resume and not self._may_come_back(job))
            ):
                return Answer.STALE
            self._change_globals(id, amendment.changes)
            self._t.amendments[id] = (*made, _line(job, amendment, self._clock.now()))
            if moves:
                self._move(job, amendment)
            if amendment.onward:
                self._set_operation(id, ending=None)
            if amendment.resume and job.state in RETRIABLE:
                self._go_on(id, amendment)
            return Answer.OK

    def amend_many(self, deeds: Sequence[Deed]) -> list[Answer]:
        return [self.amend(deed.id, deed.cursor, deed.amendment) for deed in deeds]

    def _may_come_back(self, job: Record) -> bool:
        return job.state not in RETRIABLE or (not self._taken(job) and self._may_open_above(job))

    def _go_on(self, id: str, amendment: Amendment) -> None:
        self._retry(id, RETRIABLE)
        if amendment.cursor is not None and amendment.delay:
            self._set_job(id, run_at=self._clock.now() + amendment.delay)

    def _movable(self, job: Record) -> bool:
        own = self._own(job.id)
        waits_for_pieces = job.state is State.WAITING and own is not None and own.state is BatchState.OPEN
        return job.state not in (State.RUNNING, State.COMPLETED) and not waits_for_pieces

    def _move(self, job: Record, amendment: Amendment) -> None:
        """Another step is next; what it waited for, and what is below it, concerns it no more."""
        self._leave_batch(job.id)
        self._stop_listening(job.id)
        self._set_job(
            job.id,
            cursor=amendment.cursor,
            attempt=0,
            crashes=0,
            progress=None,
            expires_at=None,
            queue=job.queue if amendment.queue is None else amendment.queue,
            priority=job.priority if amendment.priority is None else amendment.priority,
        )
        if job.state in (State.AVAILABLE, State.WAITING):
            run_at = self._clock.now() + (amendment.delay or 0.0)
            self._set_job(job.id, state=State.AVAILABLE, run_at=run_at, error=None, reason=None)

    def signal(self, id: str, signal: NewSignal) -> bool:
        with self._transaction():
            job = self._t.jobs.get(id)
            if job is None or id not in self._t.operations or job.state is State.COMPLETED:
                return False
            kept = self._t.signals.get(id, ())
            if signal.id not in [other.id for other in kept]:
                came = SignalRecord(
                    id=signal.id,
                    job=id,
                    name=signal.name,
                    payload=signal.payload,
                    by=signal.by,
                    at=self._clock.now(),
                )
                self._t.signals[id] = (*kept, came)
                self._hear(id)
            return True

    def signal_many(self, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
        return [self.signal(id, signal) for id, signal in signals]

    def retry(
        self, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
    ) -> int:
        states = (State.CANCELLED,) if resume else RETRIABLE
        with self._transaction():
            matching = [job.id for job in self._matching(which) if job.state in states][:limit]
            before = dict(self._t.jobs)
            done = sum(self._retry(id, states) for id in matching)
            for id, job in before.items():
                if by is not None and job.state in RETRIABLE and self._t.jobs[id].state not in RETRIABLE:
                    self._note(id, "resumed" if resume else "retried", by, reason)
            return done

    def _note(self, id: str, what: str, by: str | None, reason: str) -> None:
        """The line of an operation to which something is done now."""
        if id in self._t.operations and by is not None:
            job, made = self._t.jobs[id], self._t.amendments.get(id, ())
            deed = Amendment(id=f"{what}/{job.run}/{len(made)}", what=what, by=by, reason=reason)
            self._t.amendments[id] = (*made, _line(job, deed, self._clock.now()))

    def _retry(self, id: str, states: tuple[State, ...]) -> bool:
        job = self._t.jobs[id]
        if job.state not in RETRIABLE or not self._may_come_back(job):
            return False
        self._open_above(job)
        self._revive(job, states)
        return True

    def _taken(self, job: Record) -> bool:
        """Another unfinished job carries its unique key."""
        carrier = self._carrier(job.key)
        return carrier is not None and carrier.id != job.id

    def _may_open_above(self, piece: Record) -> bool:
        if piece.batch is None:
            return True
        batch = self._t.batches.get(piece.batch)
        if not self._ended(piece):  # parked; in a batch that has ended it would be cancelled before it started
            return batch is None or batch.state is BatchState.OPEN
        if batch is None or batch.state is BatchState.DONE:
            return False  # what a compose has read does not change under it
        then = self._t.jobs.get(batch.then or "")
        if batch.state is BatchState.OPEN:
            return True
        if self._t.opened[batch.id].always and not self._stands_at(then, batch.id):
            return False  # it was released, and has gone on
        if then is None or then.state not in RETRIABLE:
            return True
        return not self._taken(then) and self._may_open_above(then)

    def _stands_at(self, then: Record | None, batch: str) -> bool:
        """What was released from a batch has come to no good end there."""
        return then is not None and then.state in RETRIABLE and then.below == batch

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
        if state is State.WAITING:
            self._listen(job.id)

    def _anew(self, job: Record) -> State:
        """Waiting, if it waits for a batch or a signal; but a splitter that did not come to its end splits again."""
        own = self._own(job.id)
        if own is None or own.state is BatchState.DONE:
            return State.WAITING if self._lacks_signal(job.id) else State.AVAILABLE
        splits_again = not own.sealed and job.run > 0
        return State.AVAILABLE if splits_again else State.WAITING


def _line(job: Record, amendment: Amendment, now: float) -> AmendmentRecord:
    return AmendmentRecord(
        id=amendment.id,
        job=job.id,
        run=job.run,
        what=amendment.what,
        by=amendment.by,
        reason=amendment.reason,
        at=now,
        cursor_before=job.cursor,
        cursor=amendment.cursor,
        changes=amendment.changes,
    )
