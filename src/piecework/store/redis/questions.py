"""The verbs of people on the Redis shelf: what they ask, and what they ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from piecework.clock import Clock
from piecework.job import (
    Amendment,
    AmendmentRecord,
    Answer,
    AttemptRecord,
    BatchRecord,
    Deed,
    Filter,
    NewSignal,
    OperationRecord,
    PieceResult,
    Record,
    SignalRecord,
    Standing,
)
from piecework.store.protocol import Parts
from piecework.store.redis import deleting, merged, operators, reads
from piecework.store.redis.spread import Spread


class Questions:
    """Reads and operators' verbs; who inherits from it has the shards."""

    clock: Clock
    parts: Parts
    _pruners: Sequence[deleting.Pruner] = ()
    _menders: Sequence[deleting.Mender] = ()

    def _set_up(self) -> Spread:
        raise NotImplementedError

    def now(self) -> float:
        raise NotImplementedError

    # ── operators ────────────────────────────────────────────────────────────────────────────────

    def cancel(
        self, which: Filter, *, reason: str, by: str | None = None, limit: int = 1000, undo: bool = False
    ) -> int:
        return merged.in_turn(
            self._set_up(),
            which,
            limit,
            lambda shard, left: operators.cancel(shard, which, reason=reason, by=by, limit=left, undo=undo),
        )

    def retry(
        self, which: Filter, *, limit: int = 1000, resume: bool = False, by: str | None = None, reason: str = ""
    ) -> int:
        return merged.in_turn(
            self._set_up(),
            which,
            limit,
            lambda shard, left: operators.retry(shard, which, limit=left, resume=resume, by=by, reason=reason),
        )

    def prune(self, *, before: float, limit: int = 1000) -> int:
        shards = self._set_up().shards
        if len(self._pruners) != len(shards):
            self._pruners = [deleting.Pruner(shard, self.clock) for shard in shards]
        self._pruners = [
            *self._pruners[1:],
            self._pruners[0],
        ]  # where one shard alone fills a bite, the others come next
        deleted = 0
        for pruner in self._pruners:
            if deleted < limit:
                deleted += pruner.bite(before, limit - deleted)
        if deleted < limit:
            self.parts.prune(limit=limit)
        return deleted

    def delete(self, which: Filter, *, limit: int = 1000) -> int:
        spread = self._set_up()
        return merged.in_turn(spread, which, limit, lambda shard, left: deleting.delete(shard, which, limit=left))

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        return operators.amend(self._set_up(), [Deed(id, cursor, amendment)])[0]

    def amend_many(self, deeds: Sequence[Deed]) -> list[Answer]:
        return operators.amend(self._set_up(), deeds)

    def signal(self, id: str, signal: NewSignal) -> bool:
        return operators.signal(self._set_up(), [(id, signal)])[0]

    def signal_many(self, signals: Sequence[tuple[str, NewSignal]]) -> list[bool]:
        return operators.signal(self._set_up(), signals)

    def repair(self, *, limit: int = 10) -> list[str]:
        shards = self._set_up().shards
        if len(self._menders) != len(shards):
            self._menders = [deleting.Mender(shard) for shard in shards]
        return [sentence for mender in self._menders for sentence in mender.bite(limit)]

    def pause(self, queue: str, on: bool = True) -> None:
        for shard in self._set_up().shards:
            operators.pause(shard, queue, on)

    # ── reads ────────────────────────────────────────────────────────────────────────────────────

    def get(self, ids: Sequence[str]) -> list[Record]:
        return merged.get(self._set_up(), ids)

    def find(self, which: Filter, *, after: str | None = None, limit: int = 100, newest: bool = False) -> list[Record]:
        return merged.find(self._set_up(), which, after=after, limit=limit, newest=newest)

    def count(self, which: Filter) -> int:
        spread = self._set_up()
        return sum(reads.count(spread.shards[home], which) for home in merged.homes_of(spread, which))

    def counts(self) -> dict[tuple[str, str], int]:
        total: Counter[tuple[str, str]] = Counter()
        for said in self._set_up().everywhere("kept", {"kind": "counts"}):
            total.update(reads.counts_told(said))
        return dict(total)

    def standing(self, tasks: Sequence[str], identity: str) -> Standing | None:
        return merged.standing(self._set_up(), tasks, identity)

    def batch(self, id: str) -> BatchRecord | None:
        return reads.batch(self._set_up().shard_of(id), id)

    def pieces(self, batch: str, *, after: int = -1, limit: int = 500, failed: bool = False) -> list[PieceResult]:
        return reads.pieces(self._set_up().shard_of(batch), batch, after=after, limit=limit, failed=failed)

    def attempts(
        self, id: str, *, after: int = -1, before: int | None = None, limit: int = 1_000_000, newest: bool = False
    ) -> list[AttemptRecord]:
        return reads.attempts(self._set_up().shard_of(id), id, after=after, before=before, limit=limit, newest=newest)

    def operations(self, ids: Sequence[str]) -> list[OperationRecord]:
        return merged.operations(self._set_up(), ids)

    def plan(self, digest: str) -> str | None:
        found = (reads.plan(shard, digest) for shard in self._set_up().shards)
        return next((plan for plan in found if plan is not None), None)

    def amendments(self, id: str) -> list[AmendmentRecord]:
        return reads.amendments(self._set_up().shard_of(id), id)

    def signals(self, id: str) -> list[SignalRecord]:
        return reads.signals(self._set_up().shard_of(id), id)

    def paused(self) -> list[str]:
        return reads.paused(self._set_up().shards[0])

    def oldest_due(self) -> dict[str, float]:
        now, oldest = self.now(), dict[str, float]()
        for shard in self._set_up().shards:
            for queue, seconds in reads.oldest_due(shard, now).items():
                oldest[queue] = max(seconds, oldest.get(queue, seconds))
        return oldest

    def next_due(self) -> float | None:
        moments = [reads.seconds_told(said) for said in self._set_up().everywhere("next_due", {})]
        return min((seconds for seconds in moments if seconds is not None), default=None)
