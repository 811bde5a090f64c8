"""What the end of a job means for the batch that it waits for, and for the one that it is a piece of."""

from __future__ import annotations

from piecework.job import BatchRecord, BatchState, ErrorInfo, NewBatch, OnFailure, Record, State
from piecework.testing.model.tables import Rows


class FanIn(Rows):
    """Batches: opened, sealed, counted, and ended with what follows."""

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

    def _seal(self, batch: str) -> None:
        self._set_batch(batch, sealed=True)
        self._look_at(batch)

    def _end(self, id: str, state: State, *, error: ErrorInfo | None = None, reason: str | None = None) -> None:
        """The one way for a job to end: with its own batch, if that is open, and in the batch it is a piece of."""
        error = error or self._t.jobs[id].error  # a cancelled job still shows why its last run ended
        self._set_job(id, state=state, finished_at=self._clock.now(), stopping=False, error=error, reason=reason)
        self._t.crashed.pop(id, None)
        if self._t.to_undo.pop(id, False):  # it came to its end before it could be undone
            self._set_operation(id, ending=None)
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
        self._release(batch)

    def _release(self, batch: BatchRecord) -> None:
        """What waits for the batch may run."""
        then = self._t.jobs.get(batch.then or "")
        if then is None or then.state is not State.WAITING or then.below != batch.id:
            return
        new = self._t.opened[batch.id]
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
        """A batch fails, and with it what was to follow it; a splitter that still runs fails when it answers.

        What follows an `always` batch looks for itself what became of it.
        """
        self._close(batch, BatchState.FAILED)
        if self._t.opened[batch.id].always:
            self._release(batch)
            return
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
