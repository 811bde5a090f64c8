"""What is not kept: the old, the unwanted, and what a dead batch has left."""

from __future__ import annotations

from typing import Any

from piecework.job import BatchState, Filter, Record, State
from piecework.testing.model.fanin import FanIn


class Deleting(FanIn):
    """The verbs that delete and mend."""

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
        beside: tuple[dict[str, Any], ...] = (
            self._t.history,
            self._t.settled,
            self._t.crashed,
            self._t.operations,
            self._t.globals,
            self._t.to_undo,
            self._t.signals,
            self._t.amendments,
        )
        for table in beside:
            table.pop(job.id, None)
        walked = {operation.digest for operation in self._t.operations.values()}
        for digest in [digest for digest in self._t.plans if digest not in walked]:
            del self._t.plans[digest]
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
        batches = [batch.id for batch in self._t.batches.values() if batch.then == job.id]  # an operation has several
        return [job, *(member for id in batches for piece in self._pieces(id) for member in self._tree(piece))]

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


def _past(job: Record, before: float) -> bool:
    """It ended well, or was cancelled, before a moment."""
    well = job.state in (State.COMPLETED, State.CANCELLED)
    return well and job.finished_at is not None and job.finished_at < before
