"""What can be seen: jobs, batches, lines, and when something may change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from piecework.job import (
    AmendmentRecord,
    AttemptRecord,
    BatchRecord,
    Filter,
    OperationRecord,
    PieceResult,
    Record,
    SignalRecord,
    Standing,
    State,
)
from piecework.testing.model.tables import RETRIABLE
from piecework.testing.model.walk import Walk

BUSY = (State.WAITING, State.AVAILABLE, State.RUNNING)


class Reads(Walk):
    """The verbs that only look."""

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

    def count(self, which: Filter) -> int:
        with self._changed:
            return len(self._matching(which))

    def counts(self) -> dict[tuple[str, str], int]:
        with self._changed:
            return dict(Counter((job.queue, job.state.value) for job in self._t.jobs.values()))

    def standing(self, tasks: Sequence[str], identity: str) -> Standing | None:
        with self._changed:
            jobs = [job for job in self._t.jobs.values() if job.identity == identity and job.task in tasks]
            if not jobs:
                return None
            # Of several that were set at one moment, that of the job that arrived last.
            last = max(reversed(jobs), key=lambda job: -math.inf if job.status_at is None else job.status_at)
            return Standing(
                id=jobs[-1].id,
                state=jobs[-1].state,
                busy=any(job.state in BUSY for job in jobs),
                status=last.status,
                status_by=None if last.status is None else last.id,
                status_at=last.status_at,
            )

    def batch(self, id: str) -> BatchRecord | None:
        with self._changed:
            return self._counted(id) if id in self._t.batches else None

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        with self._changed:
            found = [
                PieceResult(job.ordinal or 0, job.piece, job.id, job.task, job.state, job.result, job.error)
                for job in self._pieces(batch)
                if (job.ordinal or 0) > after and (not failed or job.state in RETRIABLE)
            ]
            return sorted(found, key=lambda piece: piece.ordinal)[:limit]

    def attempts(
        self, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
    ) -> list[AttemptRecord]:
        with self._changed:
            end = math.inf if before is None else before
            lines = [line for line in self._t.history.get(id, ()) if after < line.run < end][:: -1 if newest else 1]
            runs = {line.run for line in lines[:limit]}
            return [line for line in lines if line.run in runs]

    def operations(self, ids: Sequence[str]) -> list[OperationRecord]:
        with self._changed:
            found = [self._t.operations[id] for id in ids if id in self._t.operations]
            return [replace(operation, globals=self._globals(operation.id)) for operation in found]

    def plan(self, digest: str) -> str | None:
        with self._changed:
            return self._t.plans.get(digest)

    def amendments(self, id: str) -> list[AmendmentRecord]:
        with self._changed:
            return list(self._t.amendments.get(id, ()))

    def signals(self, id: str) -> list[SignalRecord]:
        with self._changed:
            return list(self._t.signals.get(id, ()))

    def paused(self) -> list[str]:
        with self._changed:
            return sorted(self._t.paused)

    def oldest_due(self) -> dict[str, float]:
        with self._changed:
            now, oldest = self._clock.now(), dict[str, float]()
            for job in self._t.jobs.values():
                if (job.state is State.AVAILABLE or self._has_timeout(job)) and job.run_at <= now:
                    oldest[job.queue] = max(oldest.get(job.queue, 0.0), now - job.run_at)
            return oldest

    def wait(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait(timeout)

    def next_due(self) -> float | None:
        with self._changed:
            now = self._clock.now()
            open = [job for job in self._t.jobs.values() if job.state is State.AVAILABLE]
            later = [job.run_at for job in open if job.id in self._t.ahead]
            later += [job.expires_at for job in open if job.expires_at is not None]
            later += [job.run_at for job in self._t.jobs.values() if self._has_timeout(job)]
            return max(0.0, min(later) - now) if later else None
