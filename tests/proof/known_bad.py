"""Protocols that are known to be bad: each breaks one rule that a well-known system broke, and every proof must notice.

A layer of proof that does not catch what is in its reach proves nothing. Most are stores; some are the client's part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

from msgspec.structs import replace

from piecework.engine.keeper import Keeper
from piecework.errors import StoreUnavailable
from piecework.ids import new_id
from piecework.job import Answer, BatchRecord, Claim, Fence, Fetched, NewBatch, NewJob, Record, State
from piecework.outcome import Settlement
from piecework.store.protocol import Store
from piecework.testing import ModelStore
from piecework.testing.simulation import Protocol


class NoFence(ModelStore):
    """A run is settled by its job's id alone."""

    def _owns(self, fence: Fence) -> bool:
        return fence.id in self._t.jobs


class AttemptAsFence(ModelStore):
    """The attempt stands for the fence; a job that was handed back has the same attempt twice."""

    def _settle(self, s: Settlement) -> Answer:
        job = self._t.jobs.get(s.id)
        if job is not None and job.state is State.RUNNING and s.attempt - job.attempt in (0, 1):
            s = replace(s, run=job.run)
        return super()._settle(s)


class UnguardedCounter(ModelStore):
    """The batch's counter goes down with every settlement that arrives, whether or not it changes its piece."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._again: Counter[str] = Counter()

    def _settle(self, s: Settlement) -> Answer:
        answer = super()._settle(s)
        if answer is not Answer.OK and s.batch is not None and s.state.finished:
            self._again[s.batch] += 1
            self._look_at(s.batch)
        return answer

    def _counted(self, id: str) -> BatchRecord:
        batch = super()._counted(id)
        return replace(batch, open=max(0, batch.open - self._again[id]))


class CallerComposes(ModelStore):
    """A settlement only tells that it was the last one; whoever sent it then releases the compose, in a second call."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._telling = True

    def _look_at(self, id: str) -> None:
        if not self._telling:
            super()._look_at(id)

    def is_ripe(self, batch: str) -> bool:
        return batch in self._t.batches and self._counted(batch).sealed and self._counted(batch).open == 0

    def release(self, batch: str) -> None:
        with self._transaction():
            self._telling = False
            self._look_at(batch)
            self._telling = True


class ComposingClient:
    """The caller of `CallerComposes`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        answers, jobs = self._store.exchange(settlements, claim)
        for s, answer in zip(settlements, answers, strict=True):
            batch = s.id if s.seal is not None else s.batch
            if answer is Answer.OK and batch is not None and self._store.is_ripe(batch):
                self._store.release(batch)
        return answers, jobs

    def seal(self, batch: str) -> bool:
        sealed: bool = self._store.seal(batch)
        if sealed and self._store.is_ripe(batch):
            self._store.release(batch)
        return sealed


class ServerIds(ModelStore):
    """The store makes the ids, so a call that is sent again is another call."""

    def add(self, jobs: Sequence[NewJob], *, batch: NewBatch | None = None, **fields: Any) -> list[str]:
        if batch is None:
            jobs = [replace(job, id=new_id()) for job in jobs]
        return super().add(jobs, batch=batch, **fields)


class NoClaimNumber(ModelStore):
    """Asking again gives further jobs; those whose reply was lost run in nobody's hands while the session lives."""

    def fetch(self, claim: Claim) -> list[Fetched]:
        self._t.claims.pop((claim.worker, claim.number), None)
        return super().fetch(claim)


class BuryWithoutBeat(ModelStore):
    """A session is declared dead whatever its beat has become meanwhile."""

    def bury(self, session: str, beat: int | None = None) -> int | None:
        if beat is not None and session not in self._t.sessions:
            return None
        return super().bury(session)


class SealNotMinded(ModelStore):
    """A batch is over when no piece is open, also while the splitter still offers."""

    def _look_at(self, id: str) -> None:
        self._set_batch(id, sealed=True)
        super()._look_at(id)


class NoAlready(ModelStore):
    """Only the number of the run is compared, so a settlement that is sent again is applied again."""

    def _owns(self, fence: Fence) -> bool:
        job = self._t.jobs.get(fence.id)
        return job is not None and job.run == fence.run and not job.state.finished


class ReapSettled(ModelStore):
    """What a dead worker held is given back by its name alone, settled or not."""

    def reap(self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = 3) -> list[str]:
        with self._transaction():
            for job in list(self._t.jobs.values()):
                if job.worker == worker and job.state is State.COMPLETED:
                    self._set_job(job.id, state=State.RUNNING)
            return super().reap(worker, crashed=crashed, reason=reason, crash_limit=crash_limit)


class OneTransactionEach(ModelStore):
    """A fetch answers without having noted who took the jobs: two workers that ask at once get the same ones."""

    def _take(self, claim: Claim) -> list[Fence]:
        taken = super()._take(claim)
        for fence in taken[1:]:
            job: Record = self._t.jobs[fence.id]
            self._set_job(fence.id, state=State.AVAILABLE, run=job.run - 1)
        return taken

    def _owns(self, fence: Fence) -> bool:
        job = self._t.jobs.get(fence.id)
        return job is not None and job.state in (State.RUNNING, State.AVAILABLE)


# ── the client's part ────────────────────────────────────────────────────────────────────────────


class AssumedAcks:
    """A worker that takes a settlement for recorded when the store did not answer."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        try:
            answer: tuple[list[Answer], list[Fetched]] = self._store.exchange(settlements, claim)
        except StoreUnavailable:
            return [Answer.OK for _ in settlements], []
        return answer


class WallClockKeeper(Keeper):
    """Judges by the time that stands in the store, and its own wall clock."""

    def _watch(self, *now: float) -> None:
        for session in self._store.sessions():
            if session.id != self.session and self._clock.now() - session.seen_at >= self._lease:
                self._store.bury(session.id, session.beat)


def on(store: type[ModelStore], **parts: Any) -> Protocol:
    return Protocol(store=lambda clock: cast(Store, store(clock=clock)), **parts)


# Each with whether the fault is in the store, where the conformance suite must find it.
BROKEN: dict[str, tuple[Protocol, type[ModelStore] | None]] = {
    "no fence": (on(NoFence), NoFence),
    "the attempt as fence": (on(AttemptAsFence), AttemptAsFence),
    "unguarded counter": (on(UnguardedCounter), UnguardedCounter),
    "the caller releases the compose": (
        on(CallerComposes, connect=lambda s: cast(Store, ComposingClient(s))),
        CallerComposes,
    ),
    "ids made by the store": (on(ServerIds), ServerIds),
    "fetch without a claim number": (on(NoClaimNumber), NoClaimNumber),
    "two workers get one job": (on(OneTransactionEach), OneTransactionEach),
    "bury without the beat": (on(BuryWithoutBeat), BuryWithoutBeat),
    "the seal is not minded": (on(SealNotMinded), SealNotMinded),
    "nothing is answered already": (on(NoAlready), NoAlready),
    "reap returns what was settled": (on(ReapSettled), ReapSettled),
    "acks are assumed": (on(ModelStore, connect=lambda s: cast(Store, AssumedAcks(s))), None),
    "liveness by wall clock": (on(ModelStore, keeper=WallClockKeeper), None),
}
