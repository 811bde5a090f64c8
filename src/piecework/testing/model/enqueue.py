"""How jobs come to be: calls, pieces, operations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace

from piecework.errors import JobCancelled, LeaseLost, SplitChanged, UsageError, WithinNotSupported
from piecework.job import Fence, NewBatch, NewJob, NewOperation, OperationRecord, Record
from piecework.store.callers import Aside
from piecework.store.protocol import Opened
from piecework.testing.model.tables import DEAD
from piecework.testing.model.walk import Walk


class Enqueue(Walk):
    """The verbs that store jobs."""

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

    async def aadd(self, jobs: Sequence[NewJob], *, within: Any, aside: Aside) -> list[str]:
        return self.add(jobs, within=within)

    def transaction(self) -> AbstractContextManager[Opened]:
        raise WithinNotSupported("a model store has no connections")

    def _add(self, new: NewJob, fence: Fence | None) -> str:
        if new.id in self._t.jobs:
            self._offer(new, fence)
            return new.id
        if new.batch is not None:
            stored = self._offer(new, fence)
            if stored is not None:
                return stored
        holder = self._holder(new)
        if holder is not None:
            return holder
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
            cursor=new.operation.cursor if new.operation is not None else None,
            options=new.options,
            identity=new.identity,
            tags=new.tags,
        )
        self._place(new.id)
        if new.operation is not None:
            self._begin(new, new.operation)
        return new.id

    def _holder(self, new: NewJob) -> str | None:
        """The job that has the unique key: one that is unfinished, or the operation that another one finds by it."""
        if new.operation is not None and not new.operation.again and new.key is not None:
            held = next((id for id, operation in self._t.operations.items() if operation.key == new.key), None)
            if held is not None:
                return held
        carrier = self._carrier(new.key)
        return None if carrier is None else carrier.id

    def _begin(self, new: NewJob, operation: NewOperation) -> None:
        """Keeps an operation beside its job; an ended one that has its key loses it."""
        for id, other in self._t.operations.items() if new.key is not None else ():
            if other.key == new.key:
                self._t.operations[id] = replace(other, key=None)
        self._t.plans.setdefault(operation.digest, operation.plan)
        self._t.operations[new.id] = OperationRecord(
            id=new.id,
            digest=operation.digest,
            globals="",
            key=new.key,
            forked_from=operation.forked_from,
            forked_after=operation.forked_after,
            wait=operation.wait,
            received=operation.received,
        )
        self._t.globals[new.id] = {}
        self._change_globals(new.id, operation.globals)
        self._listen(new.id)

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
