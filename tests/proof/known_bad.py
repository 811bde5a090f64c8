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
from piecework.job import (
    Amendment,
    Answer,
    AttemptRecord,
    BatchRecord,
    Change,
    Claim,
    Fence,
    Fetched,
    NewBatch,
    NewJob,
    Record,
    State,
)
from piecework.outcome import Advance, Settlement
from piecework.plan import Place, read_cursor
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


class Client:
    """A process's own view of the store."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._store, verb)


class ComposingClient(Client):
    """The caller of `CallerComposes`."""

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


class ReapedGoesOn(ModelStore):
    """A worker whose jobs were taken back gets others when a request of it arrives late."""

    def fetch(self, claim: Claim) -> list[Fetched]:
        self._t.reaped.pop(claim.worker, None)
        return super().fetch(claim)


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


# ── operations ───────────────────────────────────────────────────────────────────────────────────


class AdvanceWithoutFence(ModelStore):
    """An operation moves on by whatever run says that its step has ended, as long as some run is at it."""

    def _settle(self, s: Settlement) -> Answer:
        job = self._t.jobs.get(s.id)
        if s.advance is not None and job is not None and job.state is State.RUNNING:
            s = replace(s, run=job.run)
        return super()._settle(s)


class MovesThoughItFailed(ModelStore):
    """The place is moved when the step is begun, so an attempt that fails leaves it behind the step."""

    def _settle(self, s: Settlement) -> Answer:
        job = self._t.jobs.get(s.id)
        if s.history == "retry" and s.advance is None and job is not None and job.id in self._t.operations:
            place = read_cursor(job.cursor or "")
            if isinstance(place, Place) and not place.undoing:
                s = replace(s, cursor=replace(place, visit=place.visit + 1, composing=False).cursor)
        return super()._settle(s)


class LineWithoutMove(ModelStore):
    """That a step has completed and where the operation goes on are two writes, and the second may be lost."""

    def _record(self, job: Record, s: Settlement) -> None:
        super()._record(job, s)
        if s.history == "completed" and s.state is State.AVAILABLE:
            self._set_job(s.id, cursor=job.cursor)


class ChangesTwice(ModelStore):
    """What a step changed is applied once more with the end of the next one, over what was changed since."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._last: dict[str, tuple[Change, ...]] = {}

    def _advance(self, id: str, advance: Advance) -> None:
        self._change_globals(id, self._last.get(id, ()))
        self._last[id] = advance.changes
        super()._advance(id, advance)


class GlobalsWhole(ModelStore):
    """A step's end writes all globals as its worker read them, over what was changed since."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._read: dict[str, dict[str, Change]] = {}

    def _fetched(self, job: Record) -> Fetched:
        self._read[job.id] = dict(self._t.globals.get(job.id, {}))
        return super()._fetched(job)

    def _advance(self, id: str, advance: Advance) -> None:
        self._t.globals[id] = dict(self._read[id])
        super()._advance(id, advance)
        self._read[id] = dict(self._t.globals[id])


class SignalTwice(ModelStore):
    """A signal that was taken stays in the line, for the next wait of that name."""

    def _hear(self, id: str) -> None:
        super()._hear(id)
        self._t.signals[id] = tuple(
            replace(signal, taken_at=None) if self._t.operations[id].received == signal.payload else signal
            for signal in self._t.signals.get(id, ())
        )


class SignalMissed(ModelStore):
    """Only who waits already hears a signal; one that came before is never looked for."""

    def _listen(self, id: str) -> None:
        wait = self._awaited_signal(self._t.jobs[id])
        if wait is not None:
            self._set_job(id, run_at=self._clock.now() + (wait.timeout or 0.0))


class UndoneUnsaid(ModelStore):
    """No line says that a step was undone, so its undo comes again."""

    def _record(self, job: Record, s: Settlement) -> None:
        super()._record(job, replace(s, history=None) if s.history == "undone" else s)


class AmendedBlindly(ModelStore):
    """An operation is moved by hand wherever it is by now, also while it runs."""

    def amend(self, id: str, cursor: str, amendment: Amendment) -> Answer:
        with self._transaction():
            return super().amend(id, self._t.jobs[id].cursor or "" if id in self._t.jobs else cursor, amendment)

    def _movable(self, job: Record) -> bool:
        return job.state is not State.COMPLETED


class KeyFreedAtTheEnd(ModelStore):
    """An operation's key is that of a job: whoever ends gives it back, and a second start begins another."""

    def _holder(self, new: NewJob) -> str | None:
        carrier = self._carrier(new.key)
        return None if carrier is None else carrier.id


# ── the client's part ────────────────────────────────────────────────────────────────────────────


class AssumedAcks(Client):
    """A worker that takes a settlement for recorded when the store did not answer."""

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        try:
            answer: tuple[list[Answer], list[Fetched]] = self._store.exchange(settlements, claim)
        except StoreUnavailable:
            return [Answer.OK for _ in settlements], []
        return answer


class NoLookAtTheBooks(Client):
    """A worker that never asks what it holds by the store's books, though a fetch of it may have arrived late."""

    def holds(self, worker: str) -> list[Fence]:
        return []


class GoesOnThoughLetGo(Client):
    """A worker that runs the next step though it was told that the operation does not run on here."""

    def exchange(self, settlements: Sequence[Settlement], claim: Claim) -> tuple[list[Answer], list[Fetched]]:
        answers, jobs = self._store.exchange(settlements, claim)
        return [Answer.OK if answer is Answer.LET_GO else answer for answer in answers], jobs


class UndoesWhatFailed(Client):
    """A worker that undoes every step that was begun, also the one that failed."""

    def attempts(self, id: str, **page: Any) -> list[AttemptRecord]:
        lines: list[AttemptRecord] = self._store.attempts(id, **page)
        return [replace(line, outcome="completed") if line.outcome == "retry" else line for line in lines]


class UndoesOldestFirst(Client):
    """A worker that undoes in the order in which the steps were done."""

    def attempts(self, id: str, **page: Any) -> list[AttemptRecord]:
        if not page.get("newest"):
            return list(self._store.attempts(id, **page))
        lines = self._store.attempts(id)
        undone = {visit(line) for line in lines if line.outcome == "undone"}
        return [line for line in lines if line.outcome == "completed" and visit(line) not in undone][:1]


def visit(line: AttemptRecord) -> int:
    place = read_cursor(line.cursor or "")
    assert isinstance(place, Place)
    return place.visit


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
    # With the look at the books, this one is slow, and not wrong: what nobody was told of is given back later.
    "fetch without a claim number": (
        on(NoClaimNumber, connect=lambda s: cast(Store, NoLookAtTheBooks(s))),
        NoClaimNumber,
    ),
    "two workers get one job": (on(OneTransactionEach), OneTransactionEach),
    "bury without the beat": (on(BuryWithoutBeat), BuryWithoutBeat),
    "the seal is not minded": (on(SealNotMinded), SealNotMinded),
    "nothing is answered already": (on(NoAlready), NoAlready),
    "reap returns what was settled": (on(ReapSettled), ReapSettled),
    "a reaped worker gets jobs": (on(ReapedGoesOn), ReapedGoesOn),
    "acks are assumed": (on(ModelStore, connect=lambda s: cast(Store, AssumedAcks(s))), None),
    "late fetches are nobody's": (on(ModelStore, connect=lambda s: cast(Store, NoLookAtTheBooks(s))), None),
    "an advance without a fence": (on(AdvanceWithoutFence), AdvanceWithoutFence),
    "the place moves though the step failed": (on(MovesThoughItFailed), MovesThoughItFailed),
    "a completion without the move": (on(LineWithoutMove), LineWithoutMove),
    "changes are applied twice": (on(ChangesTwice), ChangesTwice),
    "globals are written whole": (on(GlobalsWhole), GlobalsWhole),
    "a signal is delivered twice": (on(SignalTwice), SignalTwice),
    "an early signal is missed": (on(SignalMissed), SignalMissed),
    "an undo leaves no line": (on(UndoneUnsaid), UndoneUnsaid),
    "moved by hand while it runs": (on(AmendedBlindly), AmendedBlindly),
    "a key is freed at the end": (on(KeyFreedAtTheEnd), KeyFreedAtTheEnd),
    "a step is run though let go": (on(ModelStore, connect=lambda s: cast(Store, GoesOnThoughLetGo(s))), None),
    "a step that failed is undone": (on(ModelStore, connect=lambda s: cast(Store, UndoesWhatFailed(s))), None),
    "the oldest step is undone first": (on(ModelStore, connect=lambda s: cast(Store, UndoesOldestFirst(s))), None),
    "liveness by wall clock": (on(ModelStore, keeper=WallClockKeeper), None),
}
